/*
 * servicenow_checklist.c
 *	  What itsm_checklist() asks a ServiceNow instance: one Batch of look-ups
 *	  (servicenow-api 11, 12).
 *
 * Only what an answer proves is said.  A query whose column an instance does
 * not know is answered as if it were not there (servicenow-api 2.5), so each
 * record must itself say that it belongs; where it does not, or the table is
 * not there or not open to the user, nothing is reported and a person has to
 * look.
 *
 * Pure: no SPI, no sockets.  Texts are UTF-8.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#include "postgres.h"

#include "check.h"
#include "json.h"
#include "servicenow.h"

#define CLASSES "cmdb_ci_business_app,cmdb_ci_service_auto,cmdb_ci_service_technical,service_offering,cmdb_ci_spkg"
#define PARENTS "cmdb,cmdb_ci,cmdb_ci_service,cmdb_ci_service_discovered"
#define ROWS 200
#define NAMES 5
#define NAME_MAX_BYTES 60

/* A question; several may belong to one item. */
typedef struct Look
{
	const char *item;
	const char *table;
	const char *column; /* each record must have one of these classes in it */
	const char *classes;
	const char *filter;	 /* further conditions, or "" */
	const char *name;	 /* column that is shown */
	const char *filled;	 /* a record counts only if this column is not empty; or NULL */
	const char *foreign; /* ... only if this column names another source than ours; or NULL */
	const char *what;	 /* "%s: 3 (...)" */
} Look;

static const Look looks[] = {
	{"asset creation", "cmdb_model_category", "cmdb_ci_class", CLASSES, "", "name", "asset_class", NULL,
	 "model categories with an asset class"},
	{"business rules", "sys_script", "collection", CLASSES "," PARENTS, "^active=true", "name", NULL, NULL,
	 "active business rules"},
	{"identification rules", "cmdb_identifier", "applies_to", CLASSES "," PARENTS, "^active=true", "name", NULL, NULL,
	 "active identification rules"},
	{"reconciliation rules", "cmdb_reconciliation_definition", "applies_to", CLASSES "," PARENTS, "^active=true",
	 "name", NULL, "discovery_source", "active reconciliation rules of other sources"},
	{"data source rules", "cmdb_ire_data_source_rule", "applies_to", CLASSES "," PARENTS, "^active=true", "name", NULL,
	 NULL, "active data source rules"},
	{"mandatory columns", "sys_dictionary", "name", CLASSES "," PARENTS, "^mandatory=true^active=true", "element", NULL,
	 NULL, "mandatory columns"},
	{"attestation tasks", "cmdb_data_management_policy", "table", CLASSES "," PARENTS, "", "name", NULL, NULL,
	 "Data Manager policies"},
	{"flows", "sys_flow_record_trigger", "table", CLASSES "," PARENTS, "^active=true", "table", NULL, NULL,
	 "active triggers of flows"},
	{"notification flows", "sysevent_email_action", "collection", CLASSES "," PARENTS, "^active=true", "name", NULL,
	 NULL, "active notifications"},
};

/* Behind them. */
enum
{
	SUB_SOURCE = lengthof(looks),
	SUB_KEYS,
	SUBS
};

#define NATIVE_KEYS "glide.identification_engine.skip_sys_object_source_matching"

static bool
build_looks(CheckContext *context, AdapterRequest *request)
{
	ServicenowBatch batch;

	servicenow_batch_begin(&batch);
	for (int i = 0; i < (int) lengthof(looks); i++)
	{
		const Look *look = &looks[i];
		const char *fields =
			psprintf("%s,%s%s%s%s%s", look->column, look->name, look->filled ? "," : "",
					 look->filled ? look->filled : "", look->foreign ? "," : "", look->foreign ? look->foreign : "");

		servicenow_batch_add(&batch, "GET",
							 servicenow_query_list_url(
								 look->table,
								 psprintf("%sIN%s%s^ORDERBY%s", look->column, look->classes, look->filter, look->name),
								 fields, ROWS),
							 NULL);
	}
	servicenow_batch_add(&batch, "GET",
						 servicenow_query_list_url("sys_choice", "name=cmdb_ci^element=discovery_source^inactive=false",
												   "name,element,value", ROWS),
						 NULL);
	servicenow_batch_add(&batch, "GET",
						 servicenow_query_list_url("sys_properties", "name=" NATIVE_KEYS, "name,value", 1), NULL);
	servicenow_batch_end(&batch, request);
	return true;
}

/* The records that a sub-request brought; NULL if it did not. */
static struct json_object *
records_of(const ServicenowSub *sub)
{
	ServicenowAnswer	answer;
	struct json_object *rows;

	if (sub->state != SUB_SERVICED || sub->reply.status != 200)
		return NULL;
	servicenow_answer_open(&sub->reply, &answer);
	rows = json_member(answer.root, "result");
	return json_is_array(rows) ? rows : NULL;
}

static bool
is_in_list(const char *word, const char *list)
{
	size_t len = strlen(word);

	for (const char *at = list; at != NULL; at = strchr(at, ','))
	{
		at += *at == ',';
		if (len > 0 && strncmp(at, word, len) == 0 && (at[len] == ',' || at[len] == '\0'))
			return true;
	}
	return false;
}

/* Does the record count?  *readable becomes false if it does not say what was asked. */
static bool
record_counts(CheckContext *context, const Look *look, struct json_object *record, bool *readable)
{
	const char *class = servicenow_answer_value(record, look->column);
	const char *name = servicenow_answer_value(record, look->name);
	const char *filled = look->filled ? servicenow_answer_value(record, look->filled) : "";
	const char *foreign = look->foreign ? servicenow_answer_value(record, look->foreign) : "";

	if (class == NULL || name == NULL || filled == NULL || foreign == NULL || !is_in_list(class, look->classes))
	{
		*readable = false;
		return false;
	}
	if (look->filled && filled[0] == '\0')
		return false;
	return !(look->foreign && strcmp(foreign, context->conn->source_name) == 0);
}

static void
read_look(CheckContext *context, const Look *look, const ServicenowSub *sub)
{
	struct json_object *rows = records_of(sub);
	StringInfoData		names;
	bool				readable = true;
	bool				more = json_count(rows) >= ROWS;
	int					n = 0;

	if (rows == NULL)
		return;
	initStringInfo(&names);
	for (int i = 0; i < json_count(rows); i++)
	{
		struct json_object *record = json_item(rows, i);
		const char		   *name;

		if (!record_counts(context, look, record, &readable))
			continue;
		name = servicenow_answer_value(record, look->name);
		if (n < NAMES)
			appendStringInfo(&names, "%s%s", n > 0 ? ", " : "", json_excerpt(name, strlen(name), NAME_MAX_BYTES));
		n++;
	}
	if (!readable)
		return;
	if (n > NAMES)
		appendStringInfoString(&names, ", ...");
	if (n == 0)
		check_report(context, look->item, CHECK_OK, psprintf("no %s that this user can see", look->what), NULL);
	else
		check_report(context, look->item, CHECK_OK,
					 psprintf("%s: %d%s (%s)", look->what, n, more ? " or more" : "", names.data), NULL);
}

static void
read_source(CheckContext *context, const ServicenowSub *sub)
{
	struct json_object *rows = records_of(sub);
	bool				there = false;

	if (rows == NULL || json_count(rows) >= ROWS)
		return;
	for (int i = 0; i < json_count(rows); i++)
	{
		const char *element = servicenow_answer_value(json_item(rows, i), "element");
		const char *value = servicenow_answer_value(json_item(rows, i), "value");

		if (element == NULL || value == NULL || strcmp(element, "discovery_source") != 0)
			return;
		there = there || strcmp(value, context->conn->source_name) == 0;
	}
	check_report(context, "data source", CHECK_OK,
				 psprintf("\"%s\" is %s", context->conn->source_name, there ? "registered" : "not registered"), NULL);
}

/* A property that is not readable looks like one that is not set. */
static void
read_native_keys(CheckContext *context, const ServicenowSub *sub)
{
	struct json_object *record = json_item(records_of(sub), 0);
	const char		   *name = servicenow_answer_value(record, "name");
	const char		   *value = servicenow_answer_value(record, "value");

	if (name != NULL && value != NULL && strcmp(name, NATIVE_KEYS) == 0)
		check_report(context, "native keys", CHECK_OK,
					 strcmp(value, "true") == 0 ? "true: native keys are not used" : "native keys are used", NULL);
}

static void
read_looks(CheckContext *context, const AdapterResponse *response)
{
	ServicenowAnswer answer;
	ServicenowSub	*subs;
	int				 serviced;

	servicenow_answer_open(response, &answer);
	if (response->status != 200 || !json_is_object(answer.root))
	{
		check_report(context, "batch", CHECK_FAILED,
					 response->status == 0 ? "no answer" : psprintf("HTTP %d", response->status), NULL);
		return;
	}
	subs = servicenow_batch_open(answer.root, SUBS, &serviced, NULL);
	for (int i = 0; i < (int) lengthof(looks); i++)
		read_look(context, &looks[i], &subs[i]);
	read_source(context, &subs[SUB_SOURCE]);
	read_native_keys(context, &subs[SUB_KEYS]);
}

const CheckStep servicenow_checklist = {.build = build_looks, .read = read_looks};
