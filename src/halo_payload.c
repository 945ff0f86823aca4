/*
 * halo_payload.c
 *	  What an item wants to write, and what must never be written.
 *
 * The last check before data leaves: whatever the planner decided, an internal
 * contract does not get past this file.  A member that is not known there is lost
 * in silence (haloitsm-api 0.7), so what comes back is compared with what was sent.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#include "postgres.h"

#include <json-c/json.h>

#include "halo.h"

#define MAX_PAYLOAD 5000000

/* The platform keeps these itself, or they would move a record elsewhere. */
static const char *const never_sent[] = {"id",			"assettype_id", "assettype_name",
										 "client_name", "site_name",	"_validateonly"};

static bool
is_one_of(const char *text, const char *const *list, int n)
{
	for (int i = 0; i < n; i++)
	{
		if (strcmp(text, list[i]) == 0)
			return true;
	}
	return false;
}

/* ---------------------------------------------------------------- refusals */

static void
refuse(HaloPayload *payload, const char *error_class, const char *message)
{
	if (payload->refusal_class != NULL)
		return;
	payload->refusal_class = error_class;
	payload->refusal = message;
}

/* Only what is known not to be internal may leave; silence is not knowledge. */
static void
check_chargeback(const AdapterItem *item, HaloPayload *payload, struct json_object *root)
{
	const char *internal = json_scalar(root, "_is_internal");

	if (strcmp(item->entity_type, "contract") != 0 ||
		(strcmp(item->action, "CREATE") != 0 && strcmp(item->action, "UPDATE") != 0))
		return;
	if (internal == NULL)
		refuse(payload, "CHARGEBACK", "the contract does not say that it is not an internal chargeback");
	else if (strcmp(internal, "false") != 0)
		refuse(payload, "CHARGEBACK", "the contract is an internal chargeback, which never leaves the database");
}

static bool
is_creation(const AdapterItem *item)
{
	return strcmp(item->action, "CREATE") == 0 && halo_number(item->external_id) == 0;
}

static bool
wants_place(const HaloResource *resource)
{
	return resource->type != NULL || strcmp(resource->prefix, "user") == 0 || strcmp(resource->prefix, "licence") == 0;
}

/* What a new record cannot be without; names that are unknown would land it on "Unknown" (haloitsm-api 2.4). */
static void
check_place(const AdapterConnection *conn, const AdapterItem *item, HaloPayload *payload)
{
	const HaloResource *resource = payload->resource;

	if (!is_creation(item))
		return;
	if (resource->type != NULL && halo_known_id(conn, resource->type) == 0)
		refuse(payload, "NO_TYPE", "its asset type is not known there");
	if (wants_place(resource) && (halo_known_id(conn, "client") == 0 || halo_known_id(conn, "site") == 0))
		refuse(payload, "NO_PLACE", "client and site of the connection are not known there");
	if (strcmp(resource->prefix, "service") == 0 && halo_known_id(conn, "category") == 0)
		refuse(payload, "NO_CATEGORY", "the service category of the connection is not known there");
}

static void
check_address(const AdapterConnection *conn, const AdapterItem *item, HaloPayload *payload)
{
	payload->resource = halo_resource_of(item);
	if (payload->resource == NULL)
		refuse(payload, "NO_CLASS", "it is not known which resource to write to");
	else if (strcmp(item->action, "CREATE") != 0 && halo_number(item->external_id) == 0)
		refuse(payload, "NO_ID", "it is not known which record there is meant");
	else
		check_place(conn, item, payload);
}

/* ----------------------------------------------------------------- reading */

/* Members that begin with '_' tell us something and do not travel. */
static void
read_members(HaloPayload *payload, struct json_object *root, bool clear)
{
	json_object_object_foreach (root, name, value)
	{
		const char *text = value == NULL ? "" : json_value_text(value);

		if (name[0] == '_' || is_one_of(name, never_sent, lengthof(never_sent)))
			continue;
		if (text == NULL)
		{
			refuse(payload, "BAD_PAYLOAD", psprintf("field %s is not a plain value", name));
			continue;
		}
		payload->fields[payload->nfields].name = name;
		payload->fields[payload->nfields].value = clear ? "" : text;
		payload->nfields++;
	}
}

/* Names and values stay valid until the current memory context goes.  Never throws for the payload's content. */
void
halo_payload_open(const AdapterConnection *conn, const AdapterItem *item, HaloPayload *payload)
{
	JsonDoc	   *doc;
	const char *reason = NULL;
	size_t		length;

	memset(payload, 0, sizeof(*payload));
	check_address(conn, item, payload);
	if (item->payload == NULL || strcmp(item->action, "DELETE") == 0)
	{
		check_chargeback(item, payload, NULL);
		return;
	}
	length = strlen(item->payload);
	if (length > MAX_PAYLOAD)
		refuse(payload, "PAYLOAD_TOO_LARGE", "its values are larger than 5 MB");
	doc = json_doc_parse(item->payload, length, &reason);
	if (doc == NULL || !json_is_object(doc->root))
	{
		refuse(payload, "BAD_PAYLOAD", psprintf("the payload cannot be sent: %s", reason ? reason : "it is no object"));
		return;
	}
	check_chargeback(item, payload, doc->root);
	payload->fields = palloc(sizeof(HaloField) * (json_object_object_length(doc->root) + 1));
	read_members(payload, doc->root, strcmp(item->action, "CLEAR") == 0);
}

bool
halo_payload_refused(const HaloPayload *payload, AdapterOutcome *outcome)
{
	if (payload->refusal_class == NULL)
		return false;
	halo_answer_rule(outcome, "item", payload->refusal_class, adapter_text("not sent: %s", payload->refusal));
	return true;
}

/* The value to be written into a field; NULL if it is not in the payload. */
const char *
halo_payload_value(const HaloPayload *payload, const char *name)
{
	for (int i = 0; i < payload->nfields; i++)
	{
		if (strcmp(payload->fields[i].name, name) == 0)
			return payload->fields[i].value;
	}
	return NULL;
}

/* ----------------------------------------------------------------- writing */

static bool
is_date(const char *name)
{
	size_t length = strlen(name);

	return (length > 5 && strcmp(name + length - 5, "_date") == 0) || strncmp(name, "warranty_", 9) == 0 ||
		   (length > 4 && strcmp(name + length - 4, "date") == 0);
}

static bool
is_number(const char *name)
{
	size_t length = strlen(name);

	return (length > 3 && strcmp(name + length - 3, "_id") == 0) || strcmp(name, "criticality") == 0 ||
		   strcmp(name, "count") == 0;
}

static void
append_name(StringInfo buf, const char *name)
{
	json_append_comma(buf);
	json_append_string(buf, name);
	appendStringInfoChar(buf, ':');
}

/* Empty is 0 for a number, and the first day of 1900 for a date (haloitsm-api 2.4, 2.6). */
static void
append_member(StringInfo buf, const HaloField *field)
{
	const char *value = field->value;

	append_name(buf, field->name);
	if (halo_is_boolean(field->name))
		appendStringInfoString(buf, strcmp(value, "true") == 0 ? "true" : "false");
	else if (is_number(field->name) && (value[0] == '\0' || halo_number(value) > 0))
		appendStringInfo(buf, INT64_FORMAT, halo_number(value));
	else if (is_date(field->name) && value[0] == '\0')
		json_append_string(buf, "1900-01-01T00:00:00");
	else if (is_date(field->name) && strlen(value) == 10)
		json_append_string(buf, psprintf("%sT00:00:00", value));
	else
		json_append_string(buf, value);
}

static void
append_type_field(StringInfo buf, const AdapterConnection *conn, const HaloPayload *payload, const HaloField *field)
{
	char *label = halo_field_label(conn, payload->resource->class_name, field->name);
	int64 id = halo_field_id(conn, payload->resource->class_name, field->name);

	json_append_comma(buf);
	appendStringInfoChar(buf, '{');
	if (id > 0)
		appendStringInfo(buf, "\"id\":" INT64_FORMAT, id);
	else
		json_append_member(buf, "name", label);
	json_append_member(buf, "value", field->value);
	appendStringInfoChar(buf, '}');
}

static void
append_type_fields(StringInfo buf, const AdapterConnection *conn, const HaloPayload *payload)
{
	bool any = false;

	for (int i = 0; i < payload->nfields; i++)
	{
		if (!halo_is_type_field(payload->resource, payload->fields[i].name))
			continue;
		if (!any)
		{
			append_name(buf, "fields");
			appendStringInfoChar(buf, '[');
		}
		any = true;
		append_type_field(buf, conn, payload, &payload->fields[i]);
	}
	if (any)
		appendStringInfoChar(buf, ']');
}

static void
append_id(StringInfo buf, const AdapterConnection *conn, const char *member, const char *known)
{
	append_name(buf, member);
	appendStringInfo(buf, INT64_FORMAT, halo_known_id(conn, known));
}

/* What a new record gets beside its fields. */
static void
append_place(StringInfo buf, const AdapterConnection *conn, const HaloPayload *payload)
{
	const HaloResource *resource = payload->resource;

	if (resource->type != NULL)
		append_id(buf, conn, "assettype_id", resource->type);
	if (wants_place(resource))
	{
		append_id(buf, conn, "client_id", "client");
		append_id(buf, conn, "site_id", "site");
	}
	if (strcmp(resource->prefix, "service") == 0 && halo_payload_value(payload, "service_category_id") == NULL)
		append_id(buf, conn, "service_category_id", "category");
}

char *
halo_payload_body(const AdapterConnection *conn, const AdapterItem *item, const HaloPayload *payload)
{
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfoString(&buf, "[{");
	if (is_creation(item))
		append_place(&buf, conn, payload);
	else
		appendStringInfo(&buf, "\"id\":" INT64_FORMAT, halo_number(item->external_id));
	for (int i = 0; i < payload->nfields; i++)
	{
		if (!halo_is_type_field(payload->resource, payload->fields[i].name))
			append_member(&buf, &payload->fields[i]);
	}
	append_type_fields(&buf, conn, payload);
	/* a field that is not there must not be made (haloitsm-api 2.4) */
	if (payload->resource->type != NULL)
	{
		append_name(&buf, "_dontaddnewfields");
		appendStringInfoString(&buf, "true");
	}
	appendStringInfoString(&buf, "}]");
	return buf.data;
}

/* ---------------------------------------------------------- sent and taken */

/* Members without a value are left out there (haloitsm-api 0): false, 0 and empty look alike. */
static bool
says_nothing(const char *value)
{
	return value[0] == '\0' || strcmp(value, "false") == 0 || strcmp(value, "0") == 0;
}

static bool
same_text(const char *sent, const char *got)
{
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

static bool
was_taken(const HaloField *field, const char *got)
{
	if (says_nothing(field->value) && says_nothing(got))
		return true;
	if (is_number(field->name) && halo_number(field->value) > 0)
		return halo_number(field->value) == halo_number(got);
	return same_text(field->value, got);
}

/* Of a record that does not show the fields of its type at all, nothing is known but its name. */
static bool
is_shown(const HaloPayload *payload, struct json_object *record, const char *field)
{
	if (!halo_is_type_field(payload->resource, field) || json_is_array(json_member(record, "fields")))
		return true;
	return strcmp(field, "name") == 0 && json_member(record, payload->resource->name) != NULL;
}

const char *
halo_payload_not_taken(const AdapterConnection *conn, const HaloPayload *payload, struct json_object *record,
					   const char **message)
{
	StringInfoData object;
	StringInfoData words;

	initStringInfo(&object);
	initStringInfo(&words);
	appendStringInfoChar(&object, '{');
	for (int i = 0; i < payload->nfields; i++)
	{
		const HaloField *field = &payload->fields[i];
		const char		*got = halo_value(conn, payload->resource, record, field->name);

		if (!is_shown(payload, record, field->name) || was_taken(field, got))
			continue;
		json_append_member(&object, field->name, field->value);
		appendStringInfo(&words, "%s%s %s", words.len > 0 ? ", " : "", field->name,
						 got[0] == '\0' ? "is not there" : "has another value there");
	}
	if (words.len == 0)
		return NULL;
	appendStringInfoChar(&object, '}');
	adapter_add_text(message, adapter_text("not taken: %s", words.data));
	return json_to_server(object.data);
}
