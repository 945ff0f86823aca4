/*
 * servicenow_answer.c
 *	  What an answer says, before anybody asks what it is about.
 *
 * Tells answers of the platform from those of its load balancer, its queues
 * and its login page (servicenow-api 2.3, 8).  Nothing here throws for what
 * came in, and nothing knows which API was called.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#include "postgres.h"

#include <stdarg.h>

#include <json-c/json.h>

#include "servicenow.h"

#define CANCELLED "maximum execution time"

/*
 * A message in plain words: from UTF-8 parts, without control characters, at
 * most SERVICENOW_MAX_MESSAGE bytes of UTF-8, in the server's encoding.
 */
const char *
servicenow_answer_text(const char *fmt, ...)
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
	cut = json_excerpt(buf.data, buf.len, SERVICENOW_MAX_MESSAGE);
	for (char *at = cut; *at != '\0'; at++)
	{
		if ((unsigned char) *at < ' ')
			*at = ' ';
	}
	return json_to_server(cut);
}

/* Joins two messages (either may be NULL); the result stays bounded. */
void
servicenow_answer_add(const char **message, const char *more)
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
	if (room + strlen(more) + 2 > 2 * SERVICENOW_MAX_MESSAGE)
		return;
	*message = psprintf("%s; %s", *message, more);
}

/* Sets an outcome that is no success; texts are in the server's encoding. */
void
servicenow_answer_fail(AdapterOutcome *outcome, OutcomeKind kind, const char *error_class, const char *message)
{
	outcome->kind = kind;
	outcome->error_class = error_class;
	outcome->message = message;
}

/* The error envelope's message and detail in UTF-8; NULL if root has none (servicenow-api 2.3). */
const char *
servicenow_answer_envelope(struct json_object *root)
{
	struct json_object *error = json_member(root, "error");
	const char		   *message;
	const char		   *detail;

	if (error == NULL)
		return NULL;
	if (!json_is_object(error))
		return json_value_text(error);
	message = json_scalar(error, "message");
	detail = json_scalar(error, "detail");
	if (detail == NULL || detail[0] == '\0')
		return message;
	return message == NULL ? detail : psprintf("%s: %s", message, detail);
}

/* A part of the answer as valid JSON text, bounded, in the server's encoding; NULL for NULL. */
const char *
servicenow_answer_excerpt(struct json_object *part)
{
	StringInfoData buf;
	char		  *text;

	if (part == NULL)
		return NULL;
	text = json_print(part);
	if (strlen(text) <= SERVICENOW_MAX_EXCERPT)
		return json_to_server(text);
	initStringInfo(&buf);
	appendStringInfoChar(&buf, '{');
	json_append_member(&buf, "cut", json_excerpt(text, strlen(text), SERVICENOW_MAX_EXCERPT / 2 - 20));
	appendStringInfoChar(&buf, '}');
	return json_to_server(buf.data);
}

/* ------------------------------------------------------- the whole answer */

static void
verdict(ServicenowAnswer *answer, ResponseVerdict what, const char *error_class, const char *message)
{
	answer->verdict = what;
	answer->error_class = error_class;
	answer->message = message;
}

static bool
contains(const char *body, size_t len, const char *word)
{
	size_t length = strlen(word);

	for (size_t i = 0; i + length <= len; i++)
	{
		if (pg_strncasecmp(body + i, word, length) == 0)
			return true;
	}
	return false;
}

/* Does the answer look like a page for people? */
static bool
is_page(const AdapterResponse *response)
{
	const char *at = response->body;

	if (response->body_len == 0)
		return false;
	if (response->content_type != NULL && pg_strncasecmp(response->content_type, "text/html", 9) == 0)
		return true;
	while (*at == ' ' || *at == '\t' || *at == '\r' || *at == '\n')
		at++;
	return *at == '<';
}

static const char *
envelope_or_nothing(const ServicenowAnswer *answer)
{
	const char *text = servicenow_answer_envelope(answer->root);

	return text == NULL || text[0] == '\0' ? "it gives no reason" : text;
}

static void
read_transport_failure(const AdapterResponse *response, ServicenowAnswer *answer)
{
	const char *why = response->transport_message;

	verdict(answer, RESPONSE_RETRY, response->transport_class ? response->transport_class : "BROKEN",
			servicenow_answer_text("no answer: %s", why ? why : "the transfer failed"));
}

/* Statuses that say "not now", whatever was asked (servicenow-api 8). */
static bool
read_busy(const AdapterResponse *response, ServicenowAnswer *answer)
{
	int status = response->status;

	if (status == 429 && response->rate_headers)
		verdict(answer, RESPONSE_RETRY, "HTTP_429",
				servicenow_answer_text("a rate-limit rule holds us back: %s", envelope_or_nothing(answer)));
	else if (status == 429)
		verdict(answer, RESPONSE_RETRY, "SEMAPHORE", "too many requests at once: the queue of the platform is full");
	else if (status == 202)
		verdict(answer, RESPONSE_RETRY, "HTTP_202", "turned away: another request of the same session is running");
	else if (status >= 300 && status < 400)
		verdict(answer, RESPONSE_RETRY, psprintf("HTTP_%d", status), "redirected elsewhere, which is not followed");
	else if (status == 407 || status == 408 || status == 423 || status == 425)
		verdict(answer, RESPONSE_RETRY, psprintf("HTTP_%d", status),
				servicenow_answer_text("answered %d: %s", status, envelope_or_nothing(answer)));
	else
		return false;
	return true;
}

static bool
read_server_error(const AdapterResponse *response, ServicenowAnswer *answer)
{
	if (response->status < 500)
		return false;
	if (contains(response->body, response->body_len, CANCELLED))
		verdict(answer, RESPONSE_RETRY, "TRANSACTION_CANCELLED",
				"the platform cancelled it: maximum execution time exceeded");
	else
		verdict(answer, RESPONSE_RETRY, psprintf("HTTP_%d", response->status),
				servicenow_answer_text("answered %d: %s", response->status, envelope_or_nothing(answer)));
	return true;
}

/* A 2xx that is no JSON: hibernating, a login page, cut short, or broken (servicenow-api 2.3). */
static void
read_unreadable(const AdapterResponse *response, const char *reason, ServicenowAnswer *answer)
{
	if (contains(response->body, response->body_len, CANCELLED))
		verdict(answer, RESPONSE_RETRY, "TRANSACTION_CANCELLED",
				"the platform cancelled it: maximum execution time exceeded");
	else if (is_page(response) && contains(response->body, response->body_len, "hibernat"))
		verdict(answer, RESPONSE_RETRY, "HIBERNATING", "the instance is hibernating: wake it by signing in");
	else if (is_page(response))
		verdict(answer, RESPONSE_RETRY, "NOT_JSON", "answered a web page, not JSON: is it asleep, or a login page?");
	else if (strstr(reason, "NUL") != NULL || strstr(reason, "UTF-8") != NULL || strstr(reason, "nested") != NULL)
		verdict(answer, RESPONSE_RETRY, "BAD_RESPONSE", servicenow_answer_text("the answer is unusable: %s", reason));
	else
		verdict(answer, RESPONSE_RETRY, "NOT_JSON", servicenow_answer_text("the answer is no JSON: %s", reason));
}

/* A 2xx with an error beside the result: the transaction ended in the middle. */
static void
read_interrupted(ServicenowAnswer *answer)
{
	const char *text = servicenow_answer_envelope(answer->root);

	if (text == NULL)
		return;
	verdict(answer, RESPONSE_RETRY, contains(text, strlen(text), CANCELLED) ? "TRANSACTION_CANCELLED" : "BAD_RESPONSE",
			servicenow_answer_text("the answer ends in an error: %s", text));
}

/*
 * Fills *answer.  READABLE means that the status is 2xx, and the body JSON or
 * empty, or that the status is 4xx and about what was asked: error_class is
 * HTTP_nnn then.  Everything that is about the platform's state or our
 * credentials has another verdict.
 */
void
servicenow_answer_open(const AdapterResponse *response, ServicenowAnswer *answer)
{
	const char *reason = "it is empty";
	JsonDoc	   *doc = NULL;

	memset(answer, 0, sizeof(*answer));
	answer->verdict = RESPONSE_READABLE;
	if (response->status == 0)
	{
		read_transport_failure(response, answer);
		return;
	}
	if (response->body_len > 0)
		doc = json_doc_parse(response->body, response->body_len, &reason);
	if (doc != NULL)
		answer->root = doc->root;

	if (response->status == 401)
		verdict(answer, RESPONSE_REAUTHENTICATE, "HTTP_401",
				servicenow_answer_text("not authenticated: %s", envelope_or_nothing(answer)));
	else if (read_busy(response, answer) || read_server_error(response, answer))
		return;
	else if (response->status >= 400)
		verdict(answer, RESPONSE_READABLE, psprintf("HTTP_%d", response->status),
				servicenow_answer_text("answered %d: %s", response->status, envelope_or_nothing(answer)));
	else if (response->body_len > 0 && doc == NULL)
		read_unreadable(response, reason, answer);
	else
		read_interrupted(answer);
}

/*
 * The same for an API that answers for many items at once: there a refusal is
 * about the request, and an empty body is no answer.
 */
void
servicenow_answer_whole(const AdapterResponse *response, const char *api, ServicenowAnswer *answer)
{
	servicenow_answer_open(response, answer);
	if (response->status == 500 && contains(response->body, response->body_len, "is not a valid entry"))
		answer->verdict = RESPONSE_DEAD;
	if (answer->verdict != RESPONSE_READABLE)
		return;
	if (response->status == 403)
		verdict(answer, RESPONSE_PAUSE, "HTTP_403",
				servicenow_answer_text("%s refuses the user: %s; it needs the role itil, and a REST API access policy "
									   "where an API key is used",
									   api, envelope_or_nothing(answer)));
	else if (answer->error_class != NULL)
		verdict(answer, RESPONSE_DEAD, answer->error_class,
				servicenow_answer_text("%s answered %d: %s", api, response->status, envelope_or_nothing(answer)));
	else if (!json_is_object(answer->root))
		verdict(answer, RESPONSE_RETRY, "BAD_RESPONSE", servicenow_answer_text("%s answered no JSON object", api));
}

/* --------------------------------------------------- sent and taken */

/*
 * A field's value in a record, whatever the display parameters were: plain,
 * {link,value} or {display_value,value} (servicenow-api 2.2).  NULL if the
 * record does not show the field.
 */
const char *
servicenow_answer_value(struct json_object *record, const char *name)
{
	struct json_object *member = json_member(record, name);

	if (json_is_object(member))
		return json_scalar(member, "value");
	return json_value_text(member);
}

/*
 * The class or table that an answer names, or what was known before if it
 * names none or no possible one; in the server's encoding.
 */
const char *
servicenow_answer_table(const char *told, const char *known)
{
	if (told == NULL || told[0] == '\0' || strspn(told, "abcdefghijklmnopqrstuvwxyz0123456789_") != strlen(told))
		told = known;
	return json_to_server(told);
}

static bool
same_number(const char *a, const char *b)
{
	char  *a_end;
	char  *b_end;
	double left = strtod(a, &a_end);
	double right = strtod(b, &b_end);

	return a[0] != '\0' && b[0] != '\0' && *a_end == '\0' && *b_end == '\0' && left == right &&
		   strpbrk(a, "xXnN") == NULL && strpbrk(b, "xXnN") == NULL;
}

/* Is what the platform shows what we sent, but for how it writes numbers, dates and line ends? */
static bool
was_taken(const char *sent, const char *got)
{
	size_t		length = strlen(sent);
	const char *amount = strchr(sent, ';');

	if (strcmp(sent, got) == 0)
		return true;
	if (length == 10 && strncmp(sent, got, length) == 0 && strcmp(got + length, " 00:00:00") == 0)
		return true;
	if (servicenow_query_is_sys_id(sent) && pg_strcasecmp(sent, got) == 0)
		return true;
	if (amount == sent + 3 && same_number(amount + 1, strchr(got, ';') ? strchr(got, ';') + 1 : got))
		return true;
	if (same_number(sent, got))
		return true;
	while (*sent != '\0' || *got != '\0')
	{
		sent += strspn(sent, "\r");
		got += strspn(got, "\r");
		if (*sent == '\0' || *got == '\0' || *sent != *got)
			break;
		sent++;
		got++;
	}
	return strspn(sent, " \t\r\n") == strlen(sent) && strspn(got, " \t\r\n") == strlen(got);
}

static const char *
why_not_taken(const char *name, const char *sent, const char *got)
{
	size_t length = got != NULL ? strlen(got) : 0;

	if (got == NULL)
		return psprintf("%s is not shown there", name);
	if (length == 0)
		return psprintf("%s stayed empty", name);
	if (length < strlen(sent) && strncmp(sent, got, length) == 0)
		return psprintf("%s was cut short", name);
	if (sent[0] == '\0')
		return psprintf("%s was not cleared", name);
	return psprintf("%s has another value there", name);
}

/*
 * Compares what was sent with the record that came back.  Returns a JSON
 * object of the fields that were not taken, with what was sent, in the server's
 * encoding, and adds to *message; NULL if all were.
 */
const char *
servicenow_answer_not_taken(const ServicenowPayload *payload, struct json_object *record, const char **message)
{
	StringInfoData object;
	StringInfoData words;

	initStringInfo(&object);
	initStringInfo(&words);
	appendStringInfoChar(&object, '{');
	for (int i = 0; i < payload->nfields; i++)
	{
		const ServicenowField *field = &payload->fields[i];
		const char			  *got = servicenow_answer_value(record, field->name);

		if (got != NULL && was_taken(field->value, got))
			continue;
		json_append_member(&object, field->name, field->value);
		appendStringInfo(&words, "%s%s", words.len > 0 ? ", " : "", why_not_taken(field->name, field->value, got));
	}
	if (words.len == 0)
		return NULL;
	appendStringInfoChar(&object, '}');
	servicenow_answer_add(message, servicenow_answer_text("not taken: %s", words.data));
	return json_to_server(object.data);
}
