/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The notation of types: what values it lets through, what it says of others, and what a client is told of
 * it. */

#include <glib.h>
#include <jansson.h>
#include <string.h>

#include "base/bits.h"
#include "control/schema.h"

static const struct qmp_type types[] = {
    {QMP_STRUCT, "Point", "x: int8, ?y: uint16", NULL, NULL, false},
    {QMP_ENUM, "Colour", "red light-green", NULL, NULL, false},
    {QMP_STRUCT, "Tree", "name: str, ?children: [Tree]", NULL, NULL, false},
    {QMP_ALTERNATE, "Ref", "by-name: str, by-number: int, whole: Tree, none: null", NULL, NULL, false},
    {QMP_ENUM, "Kind", "point tree other", NULL, NULL, false},
    {QMP_UNION, "Thing", "kind: Kind, ?note: str", "kind", "point: Point, tree: Tree", false},
    {QMP_EVENT, "MOVED", "Point", NULL, NULL, false},
    {QMP_EVENT, "DONE", NULL, NULL, NULL, false},
    {0},
};

static const struct qmp_command rows[] = {
    {"move", "Point", "Colour", QMP_OOB, NULL},
    {"paint", "colour: Colour, things: [Thing], ?ref: Ref", NULL, 0, NULL},
    {"measure", "?ratio: number, ?far: uint64, ?what: any, ?small: [uint8], ?flags: [bool]", "[int32]", 0,
     NULL},
    {0},
};

static const struct qmp_command *const tables[] = {rows, NULL};

static json_t *parse(const char *text)
{
    json_t *value = json_loads(text, JSON_DECODE_ANY, NULL);
    if (!value)
        g_error("%s is not JSON", text);
    return value;
}

static void test_check(void)
{
    static const struct {
        const char *command, *args, *complaint; /* NULL = it is right */
    } cases[] = {
        {"move", "{'x': -128}", NULL},
        {"move", "{'x': 127, 'y': 65535}", NULL},
        {"move", "{'x': 128}", "parameter 'x' must be from -128 to 127"},
        {"move", "{'x': -129}", "parameter 'x' must be from -128 to 127"},
        {"move", "{'x': 0, 'y': -1}", "parameter 'y' must be from 0 to 65535"},
        {"move", "{'x': 1.0}", "parameter 'x' must be an integer"},
        {"move", "{'x': true}", "parameter 'x' must be an integer"},
        {"move", "{'x': null}", "parameter 'x' must be an integer"},
        {"move", "{}", "parameter 'x' is missing"},
        {"move", "{'x': 1, 'z': 1}", "there is no parameter 'z'"},
        {"move", "[]", "the value must be an object"},
        {"paint", "{'colour': 'red', 'things': []}", NULL},
        {"paint", "{'colour': 'light-green', 'things': []}", NULL},
        {"paint", "{'colour': 'light', 'things': []}", "parameter 'colour' must be one of: red, light-green"},
        {"paint", "{'colour': 1, 'things': []}", "parameter 'colour' must be one of: red, light-green"},
        {"paint", "{'colour': 'red', 'things': {}}", "parameter 'things' must be an array"},
        {"paint", "{'colour': 'red', 'things': [{'kind': 'point', 'x': 5, 'note': 'n'}]}", NULL},
        {"paint", "{'colour': 'red', 'things': [{'kind': 'other'}]}", NULL},
        {"paint", "{'colour': 'red', 'things': [{'kind': 'other', 'x': 5}]}",
         "there is no parameter 'things[0].x'"},
        {"paint", "{'colour': 'red', 'things': [{'kind': 'other'}, {'kind': 'point'}]}",
         "parameter 'things[1].x' is missing"},
        {"paint", "{'colour': 'red', 'things': [{'x': 5}]}", "parameter 'things[0].kind' is missing"},
        {"paint", "{'colour': 'red', 'things': [{'kind': 'tree', 'name': 'a', 'children': [{'name': 1}]}]}",
         "parameter 'things[0].children[0].name' must be a string"},
        {"paint", "{'colour': 'red', 'things': [], 'ref': 'a'}", NULL},
        {"paint", "{'colour': 'red', 'things': [], 'ref': -5}", NULL},
        {"paint", "{'colour': 'red', 'things': [], 'ref': null}", NULL},
        {"paint", "{'colour': 'red', 'things': [], 'ref': {'name': 'a'}}", NULL},
        {"paint", "{'colour': 'red', 'things': [], 'ref': {}}", "parameter 'ref.name' is missing"},
        {"paint", "{'colour': 'red', 'things': [], 'ref': []}",
         "parameter 'ref' must be one of: str, int, Tree, null"},
        {"measure", "{}", NULL},
        {"measure", "{'ratio': 1, 'far': 9223372036854775807, 'what': [{'a': null}], 'small': [0, 255]}",
         NULL},
        {"measure", "{'ratio': 0.5, 'flags': [true, false]}", NULL},
        {"measure", "{'ratio': '1'}", "parameter 'ratio' must be a number"},
        {"measure", "{'far': -1}", "parameter 'far' must be from 0 to 9223372036854775807"},
        {"measure", "{'small': [0, 256]}", "parameter 'small[1]' must be from 0 to 255"},
        {"measure", "{'flags': [0]}", "parameter 'flags[0]' must be true or false"},
    };
    AUTO(qmp_schema) s = qmp_schema_new(types, tables);
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *text = g_strdelimit(g_strdup(cases[i].args), "'", '"');
        json_t *args = parse(text);
        bool right = qmp_schema_check(qmp_schema_command(s, cases[i].command)->args, args, &error);
        json_decref(args);
        if (right == (cases[i].complaint != NULL))
            g_error("%s %s: %s", cases[i].command, text, error ? error->message : "is let through");
        if (error)
            g_assert_cmpstr(error->message, ==, cases[i].complaint);
    }
}

/* A type may hold itself: a value that is deeper than any message is refused, not followed. */
static void test_depth(void)
{
    AUTO(qmp_schema) s = qmp_schema_new(types, tables);
    for (unsigned depth = 1; depth < 2000; depth = depth * 2 + 1) {
        json_t *tree = json_pack("{s:s}", "name", "leaf");
        for (unsigned i = 0; i < depth; i++)
            tree = json_pack("{s:s,s:[o]}", "name", "node", "children", tree);
        g_autoptr(GError) error = NULL;
        bool right = qmp_schema_check(qmp_schema_type(s, "Tree"), tree, &error);
        g_assert_cmpint(right, ==, depth < 16); /* each level is an object in an array */
        g_assert_true(right || strstr(error->message, "nested deeper"));
        json_decref(tree);
    }
}

static json_t *find(json_t *list, const char *name)
{
    size_t i;
    json_t *row;
    json_array_foreach(list, i,
                       row) if (!strcmp(json_string_value(json_object_get(row, "name")), name)) return row;
    return NULL;
}

static void test_json(void)
{
    static const struct {
        const char *name, *row;
    } expected[] = {
        {"move",
         "{'name':'move','meta-type':'command','arg-type':'Point','ret-type':'Colour','allow-oob':true}"},
        {"measure", "{'name':'measure','meta-type':'command','arg-type':'measure-arg','ret-type':'[int]'}"},
        {"DONE", "{'name':'DONE','meta-type':'event','arg-type':'{}'}"},
        {"MOVED", "{'name':'MOVED','meta-type':'event','arg-type':'Point'}"},
        {"Point", "{'name':'Point','meta-type':'object','members':[{'name':'x','type':'int'},"
                  "{'name':'y','type':'int','default':null}]}"},
        {"Colour", "{'name':'Colour','meta-type':'enum','values':['red','light-green'],"
                   "'members':[{'name':'red'},{'name':'light-green'}]}"},
        {"[Thing]", "{'name':'[Thing]','meta-type':'array','element-type':'Thing'}"},
        {"[int]", "{'name':'[int]','meta-type':'array','element-type':'int'}"},
        {"Thing",
         "{'name':'Thing','meta-type':'object','tag':'kind','members':[{'name':'kind','type':'Kind'},"
         "{'name':'note','type':'str','default':null}],'variants':[{'case':'point','type':'Point'},"
         "{'case':'tree','type':'Tree'},{'case':'other','type':'{}'}]}"},
        {"Ref",
         "{'name':'Ref','meta-type':'alternate','members':[{'type':'str'},{'type':'int'},{'type':'Tree'},"
         "{'type':'null'}]}"},
        {"int", "{'name':'int','meta-type':'builtin','json-type':'int'}"},
        {"any", "{'name':'any','meta-type':'builtin','json-type':'value'}"},
        {"bool", "{'name':'bool','meta-type':'builtin','json-type':'boolean'}"},
        {"number", "{'name':'number','meta-type':'builtin','json-type':'number'}"},
    };
    AUTO(qmp_schema) s = qmp_schema_new(types, tables);
    json_t *list = qmp_schema_json(s);
    for (unsigned i = 0; i < ARRAY_SIZE(expected); i++) {
        g_autofree char *text = g_strdelimit(g_strdup(expected[i].row), "'", '"');
        json_t *want = parse(text), *row = find(list, expected[i].name);
        if (!row || !json_equal(want, row))
            g_error("%s: %s, not %s", expected[i].name, row ? json_dumps(row, 0) : "nothing", text);
        json_decref(want);
    }
    g_assert_null(find(list, "uint8"));
    g_assert_null(find(list, "[uint8]"));
    json_decref(list);
}

static void test_look_up(void)
{
    AUTO(qmp_schema) s = qmp_schema_new(types, tables);
    g_assert_null(qmp_schema_command(s, "paints"));
    g_assert_null(qmp_schema_event(s, "move"));
    g_assert_true(qmp_schema_event(s, "MOVED") == qmp_schema_type(s, "Point"));
    json_t *names = qmp_schema_commands(s);
    g_assert_cmpuint(json_array_size(names), ==, 3);
    json_decref(names);
}

/* What is wrong in a table ends the program with a word about it. */
static void test_mistakes(void)
{
    static const struct {
        struct qmp_command row;
        const char *word;
    } cases[] = {
        {{.name = "a", .args = "Nothing"}, "*no type 'Nothing'*"},
        {{.name = "a", .args = "x: [int"}, "*no type '[int'*"},
        {{.name = "a", .args = "x: int, x: str"}, "*'x' twice*"},
        {{.name = "a", .args = "x: int, y"}, "*NAME: TYPE*"},
        {{.name = "a", .args = "x y: int"}, "*a member 'x y'*"},
        {{.name = "a", .args = "Colour"}, "*no object*"},
        {{.name = "move"}, "*there twice*"},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        const struct qmp_command mistake[] = {cases[i].row, {0}};
        const struct qmp_command *const both[] = {rows, mistake, NULL};
        if (g_test_subprocess()) {
            g_assert_cmpuint(strtoul(g_getenv("TEST_SCHEMA_CASE"), NULL, 10), <, ARRAY_SIZE(cases));
            if (strtoul(g_getenv("TEST_SCHEMA_CASE"), NULL, 10) == i)
                qmp_schema_new(types, both);
            continue;
        }
        g_autofree char *number = g_strdup_printf("%u", i);
        g_setenv("TEST_SCHEMA_CASE", number, TRUE);
        g_test_trap_subprocess(NULL, 0, 0);
        g_test_trap_assert_failed();
        g_test_trap_assert_stderr(cases[i].word);
    }
}

/* The types of the program itself can be read. */
static void test_own_types(void)
{
    static const struct qmp_command *const none[] = {NULL};
    AUTO(qmp_schema) s = qmp_schema_new(qmp_types, none);
    g_assert_nonnull(qmp_schema_event(s, "SHUTDOWN"));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/schema/check", test_check);
    g_test_add_func("/schema/depth", test_depth);
    g_test_add_func("/schema/json", test_json);
    g_test_add_func("/schema/look-up", test_look_up);
    g_test_add_func("/schema/mistakes", test_mistakes);
    g_test_add_func("/schema/own-types", test_own_types);
    return g_test_run();
}
