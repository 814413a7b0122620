/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The commands of the protocol itself: negotiation, what there is, descriptors. */
#include "control/server_int.h"

static json_t *qmp_capabilities(void *opaque, json_t *args, GError **error)
{
    struct qmp_session *c = qmp_request(opaque)->session;
    if (c->negotiated)
        return qmp_fail(error, QMP_ERROR_COMMAND_NOT_FOUND, "capabilities have been negotiated already");
    c->negotiated = true;
    c->oob = json_array_size(json_object_get(args, "enable")); /* there is no other one */
    return qmp_done();
}

static json_t *query_version(void *opaque G_GNUC_UNUSED, json_t *args G_GNUC_UNUSED,
                             GError **error G_GNUC_UNUSED)
{
    return server_version();
}

static json_t *query_commands(void *opaque, json_t *args G_GNUC_UNUSED, GError **error G_GNUC_UNUSED)
{
    return qmp_schema_commands(((struct qmp_server *)opaque)->schema);
}

static json_t *query_qmp_schema(void *opaque, json_t *args G_GNUC_UNUSED, GError **error G_GNUC_UNUSED)
{
    return qmp_schema_json(((struct qmp_server *)opaque)->schema);
}

/* --- descriptors --- */

static json_t *getfd(void *opaque, json_t *args, GError **error)
{
    struct qmp_request *r = qmp_request(opaque);
    int fd = qmp_request_take_fd(r, error);
    const char *name = json_string_value(json_object_get(args, "fdname"));
    return fd >= 0 && control_fds_name(qmp_request_fds(r), name, fd, error) ? qmp_done() : NULL;
}

static json_t *closefd(void *opaque, json_t *args, GError **error)
{
    const char *name = json_string_value(json_object_get(args, "fdname"));
    return control_fds_close(qmp_request_fds(qmp_request(opaque)), name, error) ? qmp_done() : NULL;
}

static json_t *add_fd(void *opaque, json_t *args, GError **error)
{
    struct qmp_request *r = qmp_request(opaque);
    json_t *wanted = json_object_get(args, "fdset-id");
    int64_t id = wanted ? json_integer_value(wanted) : -1;
    int fd = qmp_request_take_fd(r, error);
    if (fd < 0 || !control_fds_add(qmp_request_fds(r), &id,
                                   json_string_value(json_object_get(args, "opaque")), fd, error))
        return NULL;
    return json_pack("{s:I,s:i}", "fdset-id", (json_int_t)id, "fd", fd);
}

static json_t *remove_fd(void *opaque, json_t *args, GError **error)
{
    json_t *fd = json_object_get(args, "fd");
    int64_t id = json_integer_value(json_object_get(args, "fdset-id"));
    return control_fds_remove(qmp_request_fds(qmp_request(opaque)), id, fd ? json_integer_value(fd) : -1,
                              error)
               ? qmp_done()
               : NULL;
}

static json_t *query_fdsets(void *opaque, json_t *args G_GNUC_UNUSED, GError **error G_GNUC_UNUSED)
{
    return control_fdsets_json(((struct qmp_server *)opaque)->fdsets);
}

const struct qmp_command qmp_own_commands[] = {
    {"qmp_capabilities", "?enable: [QMPCapability]", NULL, QMP_EARLY, qmp_capabilities},
    {"query-version", NULL, "VersionInfo", QMP_OOB | QMP_EARLY, query_version},
    {"query-commands", NULL, "[CommandInfo]", QMP_EARLY, query_commands},
    {"query-qmp-schema", NULL, "[SchemaInfo]", QMP_EARLY, query_qmp_schema},
    {"getfd", "fdname: str", NULL, QMP_EARLY | QMP_FDS, getfd},
    {"closefd", "fdname: str", NULL, QMP_EARLY, closefd},
    {"add-fd", "?fdset-id: uint64, ?opaque: str", "AddfdInfo", QMP_EARLY | QMP_FDS, add_fd},
    {"remove-fd", "fdset-id: uint64, ?fd: uint32", NULL, QMP_EARLY, remove_fd},
    {"query-fdsets", NULL, "[FdsetInfo]", QMP_EARLY, query_fdsets},
    {0},
};
