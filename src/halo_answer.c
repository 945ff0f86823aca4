/*
 * halo_answer.c
 *	  What an answer says, before anybody asks what it is about (haloitsm-api 5).
 *
 * 401, 403, 404 and 500 come without a body; only a 400 speaks, in one of
 * several shapes.  Nothing here throws for what came in.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#include "postgres.h"

#include <ctype.h>

#include <json-c/json.h>

#include "halo.h"

#define MAX_TEXT 500

/* ------------------------------------------------------- the text of a 400 */

/*
 * "A database error occurred (515) - Cannot insert the value NULL into column
 * 'X', table 'D_tenant.dbo.TABLE'": the number and the column say what is wrong;
 * names of databases and tables are nobody's business (haloitsm-api 5.3).
 */
static const char *
database_text(const char *text)
{
	const char *number = strchr(text, '(');
	const char *column = strstr(text, "column '");
	size_t		digits = number ? strspn(number + 1, "0123456789") : 0;
	size_t		length = column ? strcspn(column + 8, "'") : 0;

	return psprintf("a database error occurred there%s%s%s%s", digits > 0 ? " " : "",
					digits > 0 ? psprintf("(%s)", pnstrdup(number + 1, Min(digits, 9))) : "",
					length > 0 ? ", column " : "", length > 0 ? json_excerpt(column + 8, length, 80) : "");
}

static bool
is_database_text(const char *text)
{
	return pg_strncasecmp(text, "A database error occurred", 25) == 0;
}

/* "path: text; path: text" of {"path": ["text", ...], ...}; NULL if it is not of that shape. */
static const char *
model_state_text(struct json_object *root)
{
	StringInfoData words;
	bool		   all_lists = true;

	initStringInfo(&words);
	{
		json_object_object_foreach (root, path, messages)
		{
			all_lists = all_lists && json_is_array(messages);
			for (int i = 0; i < json_count(messages) && words.len < MAX_TEXT; i++)
			{
				const char *text = json_value_text(json_item(messages, i));

				if (text != NULL)
					appendStringInfo(&words, "%s%s%s%s", words.len > 0 ? "; " : "", path, path[0] ? ": " : "", text);
			}
		}
	}
	return all_lists && words.len > 0 ? words.data : NULL;
}

static const char *
object_text(struct json_object *root)
{
	static const char *const members[] = {"Message", "errorMessage", "error_description", "error", "message"};

	for (int i = 0; i < (int) lengthof(members); i++)
	{
		const char *text = json_scalar(root, members[i]);

		if (text != NULL && text[0] != '\0')
			return text;
	}
	return model_state_text(root);
}

const char *
halo_answer_text(const AdapterResponse *response, struct json_object *root)
{
	const char *text = NULL;

	if (json_is_object(root))
		text = object_text(root);
	else if (root != NULL && !json_is_array(root))
		text = json_value_text(root);
	if (text == NULL && response->body_len > 0)
		text = json_excerpt(response->body, response->body_len, MAX_TEXT);
	if (text == NULL || text[0] == '\0')
		return NULL;
	return is_database_text(text) ? database_text(text) : json_excerpt(text, strlen(text), MAX_TEXT);
}

/* -------------------------------------------------------- the whole answer */

static bool
is_page(const AdapterResponse *response)
{
	size_t blank = strspn(response->body, " \t\r\n");

	if (response->content_type != NULL && pg_strncasecmp(response->content_type, "text/html", 9) == 0)
		return true;
	return response->body[blank] == '<';
}

static const char *
class_of_refusal(const char *text)
{
	if (text != NULL && strstr(text, "must be unique") != NULL)
		return "NOT_UNIQUE";
	if (text != NULL && strncmp(text, "a database error occurred there", 31) == 0)
		return "DATABASE";
	return "HTTP_400";
}

/* Is the rule's outcome one of the record that was asked about, not of the platform? */
static bool
is_about_record(const AdapterRule *rule)
{
	return strcmp(rule->layer, "record") == 0 || strcmp(rule->layer, "removal") == 0 ||
		   strcmp(rule->layer, "relation") == 0;
}

static void
apply_rule(HaloAnswer *answer, const char *layer, int status, const char *said)
{
	const char *before = status > 0 ? psprintf("answered %d: ", status) : "";

	answer->rule = halo_rule(layer, answer->error_class);
	answer->verdict = is_about_record(answer->rule) ? RESPONSE_READABLE : adapter_rule_verdict(answer->rule);
	if (said == NULL || said[0] == '\0')
		said = answer->rule->reason;
	if (answer->verdict == RESPONSE_PAUSE && answer->rule->hint != NULL)
		answer->message = adapter_text("%s%s (hint: %s)", before, said, answer->rule->hint);
	else
		answer->message = adapter_text("%s%s", before, said);
}

static void
read_transport_failure(const AdapterResponse *response, const char *layer, HaloAnswer *answer)
{
	const char *why = response->transport_message;

	answer->error_class = response->transport_class ? response->transport_class : "BROKEN";
	apply_rule(answer, layer, 0, psprintf("no answer: %s", why ? why : "the transfer failed"));
}

/*
 * Fills *answer; layer is question, creation, record, removal or relation.
 * READABLE means that the status is 2xx and the body JSON, or empty, or that
 * the record is refused: error_class and rule are set then.
 */
void
halo_answer_open(const AdapterResponse *response, const char *layer, HaloAnswer *answer)
{
	const char *reason = NULL;
	const char *text = NULL;
	JsonDoc	   *doc = NULL;

	memset(answer, 0, sizeof(*answer));
	answer->verdict = RESPONSE_READABLE;
	if (response->status == 0)
	{
		read_transport_failure(response, layer, answer);
		return;
	}
	if (response->body_len > 0)
		doc = json_doc_parse(response->body, response->body_len, &reason);
	if (doc != NULL)
		answer->root = doc->root;
	if (response->status >= 200 && response->status < 300)
	{
		if (response->body_len == 0 || doc != NULL)
			return;
		answer->error_class = "NOT_JSON";
		apply_rule(answer, layer, response->status,
				   is_page(response) ? NULL : psprintf("no JSON that can be used: %s", reason));
		return;
	}
	if (!is_page(response))
		text = halo_answer_text(response, answer->root);
	answer->error_class = response->status == 400 ? class_of_refusal(text) : psprintf("HTTP_%d", response->status);
	apply_rule(answer, layer, response->status, text);
}

/* The answer is JSON, or nothing, and not the answer to what was asked. */
void
halo_answer_unusable(HaloAnswer *answer, const char *message)
{
	answer->error_class = "BAD_RESPONSE";
	answer->rule = halo_rule("question", answer->error_class);
	answer->verdict = adapter_rule_verdict(answer->rule);
	answer->message = message;
}

/* Sets the outcome that the table has for this class; message NULL: the table's own words. */
void
halo_answer_rule(AdapterOutcome *outcome, const char *layer, const char *error_class, const char *message)
{
	const AdapterRule *rule = halo_rule(layer, error_class);

	adapter_fail(outcome, adapter_rule_kind(rule), error_class, message != NULL ? message : rule->reason);
}

struct json_object *
halo_answer_rows(const HaloResource *resource, struct json_object *root, int64 *total)
{
	struct json_object *rows;

	*total = -1;
	if (json_is_array(root))
		return root;
	*total = json_int(root, "record_count", -1);
	rows = resource->rows ? json_member(root, resource->rows) : NULL;
	return json_is_array(rows) ? rows : NULL;
}
