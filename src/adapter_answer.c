/*
 * adapter_answer.c
 *	  What adapters have in common where they read answers: words, excerpts, and
 *	  what a line of a table of outcomes means.
 *
 * Nothing here throws for what came in, and nothing knows a platform.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#include "postgres.h"

#include <stdarg.h>

#include <json-c/json.h>

#include "lib/stringinfo.h"

#include "adapter_answer.h"
#include "json.h"

/*
 * A message in plain words: from UTF-8 parts, without control characters, at
 * most ADAPTER_MAX_MESSAGE bytes of UTF-8, in the server's encoding.
 */
const char *
adapter_text(const char *fmt, ...)
{
	StringInfoData buf;
	char		  *cut;

	initStringInfo(&buf);
	for (;;)
	{
		va_list args;
		int		needed;

		va_start(args, fmt);
		needed = appendStringInfoVA(&buf, fmt, args);
		va_end(args);
		if (needed == 0)
			break;
		enlargeStringInfo(&buf, needed);
	}
	cut = json_excerpt(buf.data, buf.len, ADAPTER_MAX_MESSAGE);
	for (char *at = cut; *at != '\0'; at++)
	{
		if ((unsigned char) *at < ' ')
			*at = ' ';
	}
	return json_to_server(cut);
}

/* Joins two messages (either may be NULL); the result stays bounded. */
void
adapter_add_text(const char **message, const char *more)
{
	size_t room;

	if (more == NULL)
		return;
	if (*message == NULL)
	{
		*message = more;
		return;
	}
	room = strlen(*message);
	if (room + strlen(more) + 2 > 2 * ADAPTER_MAX_MESSAGE)
		return;
	*message = psprintf("%s; %s", *message, more);
}

/* Sets an outcome that is no success; texts are in the server's encoding. */
void
adapter_fail(AdapterOutcome *outcome, OutcomeKind kind, const char *error_class, const char *message)
{
	outcome->kind = kind;
	outcome->error_class = error_class;
	outcome->message = message;
}

/* A part of the answer as valid JSON text, bounded, in the server's encoding; NULL for NULL. */
const char *
adapter_excerpt(struct json_object *part)
{
	StringInfoData buf;
	char		  *text;

	if (part == NULL)
		return NULL;
	text = json_print(part);
	if (strlen(text) <= ADAPTER_MAX_EXCERPT)
		return json_to_server(text);
	initStringInfo(&buf);
	appendStringInfoChar(&buf, '{');
	json_append_member(&buf, "cut", json_excerpt(text, strlen(text), ADAPTER_MAX_EXCERPT / 2 - 20));
	appendStringInfoChar(&buf, '}');
	return json_to_server(buf.data);
}

/* What an outcome means for a request and for an item. */
static const struct
{
	const char	   *outcome;
	ResponseVerdict verdict;
	OutcomeKind		kind;
} meanings[] = {
	{"done", RESPONSE_READABLE, OUTCOME_DONE},
	{"unchanged", RESPONSE_READABLE, OUTCOME_UNCHANGED},
	{"retry", RESPONSE_RETRY, OUTCOME_RETRY},
	{"lookup_first", RESPONSE_RETRY, OUTCOME_RETRY},
	{"retry_after", RESPONSE_THROTTLED, OUTCOME_RETRY},
	{"split", RESPONSE_SPLIT, OUTCOME_RETRY},
	{"reauthenticate", RESPONSE_REAUTHENTICATE, OUTCOME_RETRY},
	{"pause_connection", RESPONSE_PAUSE, OUTCOME_RETRY},
	{"dead", RESPONSE_DEAD, OUTCOME_DEAD},
};

static int
meaning_of(const AdapterRule *rule)
{
	for (int i = 0; i < (int) lengthof(meanings); i++)
	{
		if (strcmp(meanings[i].outcome, rule->outcome) == 0)
			return i;
	}
	elog(ERROR, "rule %s of %s has an unknown outcome", rule->match, rule->layer);
}

/* The verdict on a request as a whole. */
ResponseVerdict
adapter_rule_verdict(const AdapterRule *rule)
{
	return meanings[meaning_of(rule)].verdict;
}

/* The outcome of one item. */
OutcomeKind
adapter_rule_kind(const AdapterRule *rule)
{
	return meanings[meaning_of(rule)].kind;
}
