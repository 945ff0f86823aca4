/*
 * halo_resource.c
 *	  Which resource a record is of, and what in its rows is what (haloitsm-api
 *	  2, 3).
 *
 * There is no name of an asset: it is the first key field of its type, a copy of
 * one of the type's own fields, which are written through `fields`.  So "name" and
 * "field_..." of a payload are fields of the type, everything else a member.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#include "postgres.h"

#include <ctype.h>

#include <json-c/json.h>

#include "halo.h"

static const HaloResource resources[] = {
	{"business_application", "/Asset", "asset", "assets", "key_field", "type business_application", true, false},
	{"application_instance", "/Asset", "asset", "assets", "key_field", "type application_instance", true, false},
	{"software", "/Asset", "asset", "assets", "key_field", "type software", true, false},
	{"software_licence", "/SoftwareLicence", "licence", "licences", "name", NULL, true, true},
	{"service", "/Service", "service", "services", "name", NULL, true, true},
	{"supplier", "/Supplier", "supplier", "suppliers", "name", NULL, true, true},
	{"supplier_contract", "/SupplierContract", "contract", "contracts", "ref", NULL, true, true},
	{"user", "/Users", "user", "users", "emailaddress", NULL, true, true},
	{"agent", "/Agent", "agent", "results", "email", NULL, true, true},
	{"team", "/Team", "team", NULL, "name", NULL, false, false},
	{"status", "/Status", "status", NULL, "name", NULL, false, false},
};

/* The resource of a class; NULL if there is none. */
const HaloResource *
halo_resource(const char *class_name)
{
	for (int i = 0; class_name != NULL && i < (int) lengthof(resources); i++)
	{
		if (strcmp(resources[i].class_name, class_name) == 0)
			return &resources[i];
	}
	return NULL;
}

/* The same of an item: its own class, else the usual one of its entity type. */
const HaloResource *
halo_resource_of(const AdapterItem *item)
{
	static const char *const usual[][2] = {
		{"application", "business_application"},
		{"deployment_profile", "application_instance"},
		{"software_package", "software"},
		{"it_service", "service"},
		{"company", "supplier"},
		{"contract", "supplier_contract"},
		{"contact", "user"},
	};
	const HaloResource *resource = halo_resource(item->external_table);

	for (int i = 0; resource == NULL && i < (int) lengthof(usual); i++)
	{
		if (strcmp(item->entity_type, usual[i][0]) == 0)
			resource = halo_resource(usual[i][1]);
	}
	return resource;
}

int64
halo_known_id(const AdapterConnection *conn, const char *name)
{
	const char *ids = adapter_setting(conn, "halo_ids");
	const char *reason;
	JsonDoc	   *doc = ids ? json_doc_parse(ids, strlen(ids), &reason) : NULL;
	int64		id = doc ? json_int(doc->root, name, 0) : 0;

	if (doc != NULL)
		json_doc_free(doc);
	return id;
}

char *
halo_id(const HaloResource *resource, int64 number)
{
	return psprintf("%s/" INT64_FORMAT, resource->prefix, number);
}

int64
halo_number(const char *external_id)
{
	const char *slash = external_id ? strrchr(external_id, '/') : NULL;
	const char *digits = slash ? slash + 1 : external_id;
	size_t		length = digits ? strlen(digits) : 0;

	if (length == 0 || length > 18 || strspn(digits, "0123456789") != length)
		return 0;
	return strtoll(digits, NULL, 10);
}

/* ------------------------------------------------------------------- fields */

bool
halo_is_type_field(const HaloResource *resource, const char *field)
{
	return resource->type != NULL && (strcmp(field, "name") == 0 || strncmp(field, "field_", 6) == 0);
}

/* A field named after what it holds would be the same one for all types; the name is each type's own. */
static const char *
name_setting(const char *class_name)
{
	if (strcmp(class_name, "business_application") == 0)
		return "application_name_field";
	return strcmp(class_name, "application_instance") == 0 ? "profile_name_field" : "software_name_field";
}

char *
halo_field_label(const AdapterConnection *conn, const char *class_name, const char *field)
{
	const char *name = strcmp(field, "name") == 0 ? adapter_setting(conn, name_setting(class_name)) : field + 6;
	char	   *label = pstrdup(name ? name : "Name");

	if (strcmp(field, "name") == 0)
		return label;
	for (char *at = label; *at != '\0'; at++)
	{
		if (*at == '_')
			*at = ' ';
	}
	label[0] = (char) toupper((unsigned char) label[0]);
	return label;
}

/* A name is written into the first key field of its type, whatever that is called. */
int64
halo_field_id(const AdapterConnection *conn, const char *class_name, const char *field)
{
	if (strcmp(field, "name") == 0)
		return halo_known_id(conn, psprintf("name %s", class_name));
	return halo_known_id(conn, psprintf("field %s", halo_field_label(conn, class_name, field)));
}

static struct json_object *
find_type_field(const AdapterConnection *conn, const HaloResource *resource, struct json_object *record,
				const char *field)
{
	struct json_object *fields = json_member(record, "fields");
	char			   *label = halo_field_label(conn, resource->class_name, field);
	int64				id = halo_field_id(conn, resource->class_name, field);

	for (int i = 0; i < json_count(fields); i++)
	{
		struct json_object *entry = json_item(fields, i);
		const char		   *name = json_scalar(entry, "name");

		if (id != 0 ? json_int(entry, "id", -1) == id : name != NULL && pg_strcasecmp(name, label) == 0)
			return entry;
	}
	return NULL;
}

bool
halo_is_boolean(const char *field)
{
	static const char *const names[] = {
		"inactive",			 "active",		 "is_active",		  "is_supplier",	  "is_manufacturer",
		"showinusercatalog", "subscribable", "showintechcatalog", "isserviceaccount", "dontsendalarm"};

	for (int i = 0; i < (int) lengthof(names); i++)
	{
		if (strcmp(names[i], field) == 0)
			return true;
	}
	return false;
}

static bool
is_id_member(const char *field)
{
	size_t length = strlen(field);

	return length > 3 && strcmp(field + length - 3, "_id") == 0;
}

/* What kind of record an id refers to; NULL: a number and no record of ours. */
static const char *
prefix_of(const char *field)
{
	static const char *const refers[][2] = {
		{"supplier_id", "supplier"},	 {"business_owner_id", "user"},	  {"technical_owner_id", "agent"},
		{"service_id", "service"},		 {"owning_businessapp", "asset"}, {"supplier_contract_id", "contract"},
		{"compliance_owner_id", "user"},
	};

	for (int i = 0; i < (int) lengthof(refers); i++)
	{
		if (strcmp(refers[i][0], field) == 0)
			return refers[i][1];
	}
	return NULL;
}

/* A whole number, however it is written: 30.0 is 30 (haloitsm-api 3.5). */
static const char *
id_text(const char *field, const char *value)
{
	double		number = strtod(value, NULL);
	const char *prefix = prefix_of(field);

	if (number <= 0)
		return "";
	return prefix ? psprintf("%s/%.0f", prefix, number) : psprintf("%.0f", number);
}

/* A date without a time is one; none is written as the first day of 1900 (haloitsm-api 2.6). */
static const char *
date_text(const char *value)
{
	if (strncmp(value, "1900-01-01T", 11) == 0)
		return "";
	if (strlen(value) >= 19 && value[4] == '-' && strncmp(value + 10, "T00:00:00", 9) == 0)
		return pnstrdup(value, 10);
	return value;
}

const char *
halo_value(const AdapterConnection *conn, const HaloResource *resource, struct json_object *record, const char *field)
{
	const char *value = NULL;

	if (halo_is_type_field(resource, field))
	{
		struct json_object *entry = find_type_field(conn, resource, record, field);

		value = entry ? json_scalar(entry, "value") : NULL;
		if (value == NULL && strcmp(field, "name") == 0)
			value = json_scalar(record, resource->name);
	}
	else
		value = json_scalar(record, field);
	/* what has no value is left out, and a boolean has none if it is false (haloitsm-api 0) */
	if (value == NULL)
		return halo_is_boolean(field) ? "false" : "";
	if (is_id_member(field) && !halo_is_type_field(resource, field))
		return id_text(field, value);
	return date_text(value);
}

/* Upper and lower case, and blanks at the end, make no other name. */
bool
halo_same_name(const char *a, const char *b)
{
	size_t la = strlen(a);
	size_t lb = strlen(b);

	while (la > 0 && a[la - 1] == ' ')
		la--;
	while (lb > 0 && b[lb - 1] == ' ')
		lb--;
	return la == lb && pg_strncasecmp(a, b, la) == 0;
}
