/*
 * adapter_answer.h
 *	  What adapters have in common where they read answers.
 *
 * For adapter_*.c and the files behind them.  Texts that leave are in the
 * server's encoding.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#ifndef PGSYNC_ITSM_ADAPTER_ANSWER_H
#define PGSYNC_ITSM_ADAPTER_ANSWER_H

#include "postgres.h"

#include "adapter.h"

/* Outcomes carry at most this much of an answer and of a message, in bytes. */
#define ADAPTER_MAX_EXCERPT 4000
#define ADAPTER_MAX_MESSAGE 500

extern const char *adapter_text(const char *fmt, ...) pg_attribute_printf(1, 2);
extern void		   adapter_add_text(const char **message, const char *more);
extern const char *adapter_excerpt(struct json_object *part);
extern void adapter_fail(AdapterOutcome *outcome, OutcomeKind kind, const char *error_class, const char *message);
extern ResponseVerdict adapter_rule_verdict(const AdapterRule *rule);
extern OutcomeKind	   adapter_rule_kind(const AdapterRule *rule);

#endif /* PGSYNC_ITSM_ADAPTER_ANSWER_H */
