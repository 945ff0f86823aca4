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

#include <json-c/json.h>

#include "servicenow.h"

#define CANCELLED "maximum execution time"

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

/* ------------------------------------------------------- the whole answer */

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

/* A layer of exceptions, where there is one, goes before the layer itself. */
static const AdapterRule *
find_rule(const char *exceptions, const char *layer, const char *error_class)
{
	const AdapterRule *rule = exceptions != NULL ? servicenow_rule(exceptions, error_class) : NULL;

	return rule != NULL ? rule : servicenow_rule(layer, error_class);
}

static void
read_transport_failure(const AdapterResponse *response, const char *exceptions, ServicenowAnswer *answer)
{
	const char *why = response->transport_message;

	answer->error_class = response->transport_class ? response->transport_class : "BROKEN";
	answer->message = adapter_text("no answer: %s", why ? why : "the transfer failed");
	answer->rule = find_rule(exceptions, "transport", answer->error_class);
	answer->verdict = adapter_rule_verdict(answer->rule);
}

/* The row cannot be there: a rule or a policy stopped the insert itself (servicenow-api 2.3). */
static bool
was_stopped(const char *envelope)
{
	return envelope != NULL && (strstr(envelope, "aborted by Business Rule") != NULL ||
								strstr(envelope, "Data Policy") != NULL || strstr(envelope, "Unique Key") != NULL);
}

static bool
body_contains(const AdapterResponse *response, const char *word)
{
	return contains(response->body, response->body_len, word);
}

/* The class of an answer whose status is no success. */
static const char *
class_of_status(const AdapterResponse *response, const ServicenowAnswer *answer)
{
	int status = response->status;

	if (status == 429 && !response->rate_headers)
		return "SEMAPHORE";
	if (status >= 500 && body_contains(response, CANCELLED))
		return "TRANSACTION_CANCELLED";
	if (status == 500 && body_contains(response, "is not a valid entry"))
		return "BAD_OPTIONS";
	if (status == 403 && was_stopped(servicenow_answer_envelope(answer->root)))
		return "ABORTED";
	return psprintf("HTTP_%d", status);
}

/* The class of a success that is no JSON: hibernating, a login page, cut short, or broken (servicenow-api 2.3). */
static const char *
class_of_unreadable(const AdapterResponse *response, const char *reason)
{
	if (body_contains(response, CANCELLED))
		return "TRANSACTION_CANCELLED";
	if (is_page(response))
		return body_contains(response, "hibernat") ? "HIBERNATING" : "NOT_JSON";
	if (strstr(reason, "NUL") != NULL || strstr(reason, "UTF-8") != NULL || strstr(reason, "nested") != NULL)
		return "BAD_RESPONSE";
	return "NOT_JSON";
}

/* The class of an answer; NULL for a success that can be read.  *detail: what it says itself, or NULL. */
static const char *
class_of_answer(const AdapterResponse *response, const ServicenowAnswer *answer, const char *reason,
				const char **detail)
{
	bool success = response->status >= 200 && response->status < 300;

	*detail = servicenow_answer_envelope(answer->root);
	if (response->status == 202)
		return "HTTP_202";
	if (!success)
		return class_of_status(response, answer);
	if (response->body_len > 0 && answer->root == NULL && reason != NULL)
	{
		if (!is_page(response) && !body_contains(response, CANCELLED))
			*detail = psprintf("no JSON that can be used: %s", reason);
		return class_of_unreadable(response, reason);
	}
	if (*detail == NULL)
		return NULL;
	/* a success with an error beside the result: the transaction ended in the middle */
	return contains(*detail, strlen(*detail), CANCELLED) ? "TRANSACTION_CANCELLED" : "BAD_RESPONSE";
}

/* Is the rule's outcome one of the record that was asked about, not of the platform? */
static bool
is_about_record(const AdapterRule *rule)
{
	return strcmp(rule->layer, "record") == 0 || strcmp(rule->layer, "creation") == 0 ||
		   strcmp(rule->layer, "removal") == 0;
}

static void
apply_rule(ServicenowAnswer *answer, const char *exceptions, const char *layer, int status, const char *detail)
{
	answer->rule = find_rule(exceptions, layer, answer->error_class);
	answer->verdict = is_about_record(answer->rule) ? RESPONSE_READABLE : adapter_rule_verdict(answer->rule);
	if (detail == NULL || detail[0] == '\0')
		detail = answer->rule->reason;
	if (answer->verdict == RESPONSE_PAUSE && answer->rule->hint != NULL)
		answer->message = adapter_text("answered %d: %s (hint: %s)", status, detail, answer->rule->hint);
	else
		answer->message = adapter_text("answered %d: %s", status, detail);
}

static void
read_layer(const AdapterResponse *response, const char *exceptions, const char *layer, ServicenowAnswer *answer)
{
	const char *reason = NULL;
	const char *detail;
	JsonDoc	   *doc = NULL;

	memset(answer, 0, sizeof(*answer));
	answer->verdict = RESPONSE_READABLE;
	if (response->status == 0)
	{
		read_transport_failure(response, exceptions, answer);
		return;
	}
	if (response->body_len > 0)
		doc = json_doc_parse(response->body, response->body_len, &reason);
	if (doc != NULL)
		answer->root = doc->root;
	answer->error_class = class_of_answer(response, answer, reason, &detail);
	if (answer->error_class != NULL)
		apply_rule(answer, exceptions, layer, response->status, detail);
}

/*
 * Fills *answer with what a call about one record was answered; layer is
 * record, creation or removal, and the call may be a part of a Batch.  READABLE
 * means that the status is 2xx, and the body JSON or empty, or that the record
 * is refused: error_class and rule are set then.  Everything that is about the
 * platform's state or our credentials has another verdict.
 */
void
servicenow_answer_record(const AdapterResponse *response, const char *layer, bool in_batch, ServicenowAnswer *answer)
{
	read_layer(response, in_batch ? "batch" : "alone", layer, answer);
}

/* The same for a question that names no record. */
void
servicenow_answer_open(const AdapterResponse *response, ServicenowAnswer *answer)
{
	read_layer(response, "alone", "record", answer);
}

/*
 * The same for an API that answers for nitems items at once: there a refusal is
 * about the request, and an empty body is no answer.
 */
void
servicenow_answer_whole(const AdapterResponse *response, const char *api, int nitems, ServicenowAnswer *answer)
{
	read_layer(response, nitems == 1 ? "alone" : NULL, "request", answer);
	if (answer->error_class != NULL && response->status != 0)
		answer->message = adapter_text("%s %s", api, answer->message);
	else if (answer->error_class == NULL && !json_is_object(answer->root))
		servicenow_answer_unusable(answer, adapter_text("%s answered no JSON object", api));
}

/* The answer is JSON, and not the answer to what was asked. */
void
servicenow_answer_unusable(ServicenowAnswer *answer, const char *message)
{
	answer->error_class = "BAD_RESPONSE";
	answer->rule = servicenow_rule("request", answer->error_class);
	answer->verdict = adapter_rule_verdict(answer->rule);
	answer->message = message;
}

/* Sets the outcome that the table has for this class; message NULL: the table's own words. */
void
servicenow_answer_rule(AdapterOutcome *outcome, const char *layer, const char *error_class, const char *message)
{
	const AdapterRule *rule = servicenow_rule(layer, error_class);

	adapter_fail(outcome, adapter_rule_kind(rule), error_class, message != NULL ? message : rule->reason);
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
	adapter_add_text(message, adapter_text("not taken: %s", words.data));
	return json_to_server(object.data);
}
