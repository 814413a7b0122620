/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Keys of `hostel set` that change a guest while it runs: how much of the host it may use. */
#ifndef HOSTEL_CLI_SETTINGS_LIVE_H
#define HOSTEL_CLI_SETTINGS_LIVE_H

#include "cli/settings.h"

/* For the table; check and apply as there. */
bool live_check_size(const char *value, GError **error);
bool live_check_cpus(const char *value, GError **error);
bool live_check_weight(const char *value, GError **error);
bool live_check_cap(const char *value, GError **error);
bool live_check_nice(const char *value, GError **error);
bool live_check_rate(const char *value, GError **error); /* settings_net.c */

bool live_set_memory_target(struct setting_live *live, const char *value, GError **error);
bool live_set_affinity(struct setting_live *live, const char *value, GError **error);
bool live_set_weight(struct setting_live *live, const char *value, GError **error);
bool live_set_cap(struct setting_live *live, const char *value, GError **error);
bool live_set_nice(struct setting_live *live, const char *value, GError **error);
bool live_set_memory_limit(struct setting_live *live, const char *value, GError **error);
bool live_set_net_in(struct setting_live *live, const char *value, GError **error);
bool live_set_net_out(struct setting_live *live, const char *value, GError **error);

/* Removes the control groups that a run left behind, which nobody is in any more. runtime: its open folder.
 */
void live_forget(int runtime);

#endif
