/*
 * servicenow_check.c
 *	  What the connection test asks a ServiceNow instance, and how the answers
 *	  read (servicenow-api 12).
 *
 * Three requests: who am I; one Batch of look-ups; one dry run of
 * identification and reconciliation.  None of them writes.  The registration
 * of the data source (servicenow-api 10.11) is the one that does, for
 * itsm_prepare_instance() only.
 *
 * Pure: no SPI, no sockets.  Texts are UTF-8.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#include "postgres.h"

#include "check.h"
#include "json.h"
#include "servicenow.h"

#define MAX_TABLES 20
#define MAX_CLASSES 8
#define WORDS_MAX 400
#define SKIP_NATIVE_KEYS "glide.identification_engine.skip_sys_object_source_matching"

/* Sub-requests of the one Batch; tables follow. */
enum
{
	SUB_PROPERTIES,
	SUB_ROLES,
	SUB_CHOICE,
	SUB_META,
	SUB_TABLES
};

typedef enum Tri
{
	TRI_UNKNOWN,
	TRI_NO,
	TRI_YES
} Tri;

typedef struct Facts
{
	const char *user_id; /* NULL if the instance did not tell */
	const char *user_name;
	const char *time_zone;
	bool		roles_known;
	List	   *roles; /* of char * */
	bool		properties_known;
	bool		skips_native_keys;
	Tri			choice; /* is the data source among the choices? */
	int			ntables;
	const char *tables[MAX_TABLES];
	int			nclasses;
	const char *classes[MAX_CLASSES];
} Facts;

/* ------------------------------------------------------------ small helpers */

static const char *
setting(CheckContext *context, const char *name, const char *fallback)
{
	const char *value = adapter_setting(context->conn, name);

	return value ? value : fallback;
}

static bool
setting_is(CheckContext *context, const char *name, const char *value)
{
	return strcmp(setting(context, name, ""), value) == 0;
}

static void
fail(CheckContext *context, const char *name, const char *detail, const char *hint)
{
	check_report(context, name, CHECK_FAILED, detail, hint);
	context->stop = true;
}

/* What an answer that is no success says, bounded. */
static const char *
said(const AdapterResponse *response, const ServicenowAnswer *answer)
{
	const char *words;

	if (response->status == 0)
		return response->transport_message ? response->transport_message : "no answer";
	words = servicenow_answer_envelope(answer->root);
	if (words == NULL && response->body_len > 0 && answer->root == NULL)
		words = answer->message ? json_to_utf8(answer->message) : "the answer is no JSON";
	return psprintf("HTTP %d%s%s", response->status, words ? ": " : "",
					words ? json_excerpt(words, strlen(words), WORDS_MAX) : "");
}

static bool
is_page(const AdapterResponse *response)
{
	return response->content_type != NULL && pg_strncasecmp(response->content_type, "text/html", 9) == 0;
}

static struct json_object *
result_of(const ServicenowAnswer *answer)
{
	return json_member(answer->root, "result");
}

static bool
has_role(const Facts *facts, const char *role)
{
	ListCell *lc;

	foreach (lc, facts->roles)
	{
		if (strcmp(lfirst(lc), role) == 0)
			return true;
	}
	return false;
}

/* --------------------------------------------------------------- who am I */

static bool
build_user(CheckContext *context, AdapterRequest *request)
{
	request->method = "GET";
	request->path = servicenow_query_list_url("sys_user", "sys_id=javascript:gs.getUserID()",
											  "sys_id,user_name,time_zone,active", 1);
	return true;
}

static const char *
login_hint(const char *auth_type)
{
	if (strcmp(auth_type, "basic") == 0)
		return "User name or password is wrong, the user is inactive or locked out, or basic authentication is restricted, "
			   "as it is by default on new instances: use OAuth, or let an administrator allow it for this user.";
	if (strcmp(auth_type, "api_key") == 0)
		return "The key is wrong or inactive, or there is no REST API access policy that lets a key be used for this API: "
			   "Table API, Batch API, Identify and Reconcile API and CMDB Meta API need one each.";
	if (strcmp(auth_type, "client_certificate") == 0)
		return "The certificate is not mapped to a user, or mutual authentication is off on the instance.";
	return "The token was granted, but the API does not take it: the OAuth application may be limited to scopes without "
		   "this API, or its user may be inactive or locked out.";
}

static const char *const sleep_hint =
	"A developer instance sleeps when it is not used: sign in to it in a browser, wait until it is awake, and test again. "
	"Otherwise the address may be that of a login page.";

static void
read_login_failure(CheckContext *context, const AdapterResponse *response, const ServicenowAnswer *answer)
{
	if (response->status == 401)
		fail(context, "login", said(response, answer), login_hint(context->auth_type));
	else if (response->status == 403)
		fail(
			context, "login", said(response, answer),
			"The user may not use the REST API: it needs the role snc_platform_rest_api_access where REST is restricted, and, "
			"for a scoped OAuth application, a scope with this API.");
	else if (is_page(response))
		fail(context, "login", psprintf("HTTP %d: a web page came back instead of JSON", response->status), sleep_hint);
	else if (response->status == 404)
		fail(context, "login", said(response, answer), "Is this the address of a ServiceNow instance?");
	else
		fail(context, "login", said(response, answer), "Try again later.");
}

static void
read_user(CheckContext *context, const AdapterResponse *response)
{
	Facts			   *facts = context->facts;
	ServicenowAnswer	answer;
	struct json_object *user;

	servicenow_answer_open(response, &answer);
	if (response->status != 200 || !json_is_array(result_of(&answer)))
	{
		read_login_failure(context, response, &answer);
		return;
	}
	user = json_item(result_of(&answer), 0);
	facts->user_id = servicenow_answer_value(user, "sys_id");
	facts->user_name = servicenow_answer_value(user, "user_name");
	facts->time_zone = servicenow_answer_value(user, "time_zone");
}

/* ------------------------------------------------------------- the look-ups */

static void
add_table(Facts *facts, const char *table)
{
	for (int i = 0; i < facts->ntables; i++)
	{
		if (strcmp(facts->tables[i], table) == 0)
			return;
	}
	if (facts->ntables < MAX_TABLES)
		facts->tables[facts->ntables++] = table;
}

static void
add_class(Facts *facts, const char *class)
{
	facts->classes[facts->nclasses++] = class;
	add_table(facts, class);
}

/* What this connection writes to or looks up, by its settings. */
static void
choose_tables(CheckContext *context)
{
	Facts *facts = context->facts;

	add_class(facts, "cmdb_ci_business_app");
	add_class(facts, "cmdb_ci_service_auto");
	add_class(facts, "cmdb_ci_service_technical");
	add_class(facts, "service_offering");
	if (setting_is(context, "runs_on_as", "software_package"))
		add_class(facts, "cmdb_ci_spkg");
	add_table(facts, "cmdb_rel_ci");
	add_table(facts, "cmdb_rel_type");
	add_table(facts, setting(context, "product_model_table", "cmdb_software_product_model"));
	add_table(facts, "core_company");
	add_table(facts, "ast_contract");
	add_table(facts, "contract_rel_ci");
	add_table(facts, "cmdb_contract_product_model");
	add_table(facts, "sys_user");
	add_table(facts, "sys_user_group");
	add_table(facts, "sys_object_source");
	add_table(facts, "sys_choice");
}

static char *
choice_query(CheckContext *context)
{
	StringInfoData query;

	initStringInfo(&query);
	appendStringInfoString(&query, "name=cmdb_ci^element=discovery_source^");
	if (!servicenow_query_condition(&query, "value", context->conn->source_name))
		appendStringInfoString(&query, "valueISNOTEMPTY");
	return query.data;
}

static bool
build_lookups(CheckContext *context, AdapterRequest *request)
{
	Facts		   *facts = context->facts;
	ServicenowBatch batch;

	choose_tables(context);
	servicenow_batch_begin(&batch);
	servicenow_batch_add(&batch, "GET",
						 servicenow_query_list_url("sys_properties",
												   "nameINinstance_name,glide.buildtag.last," SKIP_NATIVE_KEYS,
												   "name,value", 10),
						 NULL);

	/* with links: they name the instance even to users who may not read its properties */
	servicenow_batch_add(&batch, "GET",
						 "/api/now/table/sys_user_has_role?sysparm_query=user%3Djavascript%3Ags.getUserID()"
						 "&sysparm_fields=role,role.name&sysparm_limit=1000&sysparm_suppress_pagination_header=true",
						 NULL);
	servicenow_batch_add(&batch, "GET",
						 servicenow_query_list_url("sys_choice", choice_query(context), "value,inactive", 100), NULL);
	servicenow_batch_add(&batch, "GET", "/api/now/cmdb/meta/cmdb_ci_business_app", NULL);
	for (int i = 0; i < facts->ntables; i++)
		servicenow_batch_add(&batch, "GET", servicenow_query_list_url(facts->tables[i], "", "sys_id", 1), NULL);
	servicenow_batch_end(&batch, request);
	return true;
}

/* The records that a sub-request brought; NULL if it failed. */
static struct json_object *
sub_result(const ServicenowSub *sub, ServicenowAnswer *answer)
{
	servicenow_answer_open(&sub->reply, answer);
	if (sub->state != SUB_SERVICED || sub->reply.status != 200)
		return NULL;
	return result_of(answer);
}

static void
read_properties(CheckContext *context, const ServicenowSub *sub)
{
	Facts			   *facts = context->facts;
	ServicenowAnswer	answer;
	struct json_object *rows = sub_result(sub, &answer);

	for (int i = 0; i < json_count(rows); i++)
	{
		const char *name = servicenow_answer_value(json_item(rows, i), "name");
		const char *value = servicenow_answer_value(json_item(rows, i), "value");

		if (name == NULL || value == NULL)
			continue;
		if (strcmp(name, "instance_name") == 0 && value[0] != '\0')
		{
			facts->properties_known = true;
			context->instance_name = value;
		}
		else if (strcmp(name, SKIP_NATIVE_KEYS) == 0)
		{
			facts->properties_known = true;
			facts->skips_native_keys = strcmp(value, "true") == 0;
		}
	}
}

/*
 * The host in a record's link is the one the instance is configured with, not
 * the one we asked (servicenow-api 2.2): "dev1" of https://dev1.service-now.com/...
 */
static const char *
name_in_link(const char *link)
{
	const char *domain = ".service-now.com";
	const char *host = link ? strstr(link, "://") : NULL;
	char	   *name;
	size_t		len;

	if (host == NULL)
		return NULL;
	host += 3;
	len = strcspn(host, "/:?#");
	if (len == 0)
		return NULL;
	name = pnstrdup(host, len);
	if (len > strlen(domain) && strcmp(name + len - strlen(domain), domain) == 0)
		name[len - strlen(domain)] = '\0';
	return name;
}

static void
read_roles(CheckContext *context, const ServicenowSub *sub)
{
	Facts			   *facts = context->facts;
	ServicenowAnswer	answer;
	struct json_object *rows = sub_result(sub, &answer);

	for (int i = 0; i < json_count(rows); i++)
	{
		struct json_object *row = json_item(rows, i);
		const char		   *name = servicenow_answer_value(row, "role.name");

		if (name != NULL && name[0] != '\0')
		{
			facts->roles_known = true;
			facts->roles = lappend(facts->roles, unconstify(char *, name));
		}
		if (context->instance_name == NULL)
			context->instance_name = name_in_link(json_text(json_member(row, "role"), "link"));
	}
}

static void
read_choice(CheckContext *context, const ServicenowSub *sub)
{
	Facts			   *facts = context->facts;
	ServicenowAnswer	answer;
	struct json_object *rows = sub_result(sub, &answer);

	if (rows == NULL)
		return;
	facts->choice = TRI_NO;
	for (int i = 0; i < json_count(rows); i++)
	{
		const char *value = servicenow_answer_value(json_item(rows, i), "value");
		const char *inactive = servicenow_answer_value(json_item(rows, i), "inactive");

		if (value != NULL && strcmp(value, context->conn->source_name) == 0 &&
			(inactive == NULL || strcmp(inactive, "true") != 0))
			facts->choice = TRI_YES;
	}
}

static void
report_instance(CheckContext *context)
{
	if (context->instance_name == NULL)
		check_report(
			context, "instance", CHECK_UNKNOWN, "the instance does not tell its name to this user",
			"Then another instance behind the same address is not noticed. Let the user read the system property "
			"instance_name, or its own roles.");
	else
		check_report(context, "instance", CHECK_OK,
					 json_excerpt(context->instance_name, strlen(context->instance_name), 80), NULL);
}

static void
report_user(CheckContext *context)
{
	Facts	   *facts = context->facts;
	const char *zone = facts->time_zone;

	if (facts->user_name == NULL)
	{
		check_report(context, "user", CHECK_UNKNOWN, "signed in; the instance does not tell as whom",
					 "Let the user read its own record in sys_user.");
		return;
	}
	check_report(context, "user", CHECK_OK,
				 psprintf("%s, time zone %s", json_excerpt(facts->user_name, strlen(facts->user_name), 80),
						  zone == NULL || zone[0] == '\0' ? "of the instance" : json_excerpt(zone, strlen(zone), 40)),
				 NULL);
}

static const char *
table_hint(const char *table)
{
	if (strncmp(table, "cmdb_", 5) == 0 || strcmp(table, "service_offering") == 0)
		return "Give the user the role itil; cmdb_read is not enough.";
	if (strstr(table, "contract") != NULL)
		return "Give the user the role contract_manager, if contracts are to be published.";
	return "Let an administrator give the user read access to this table.";
}

static void
report_table(CheckContext *context, const char *table, const ServicenowSub *sub)
{
	const char		   *name = psprintf("read %s", table);
	ServicenowAnswer	answer;
	struct json_object *rows = sub_result(sub, &answer);

	if (json_is_array(rows))
		check_report(context, name, CHECK_OK,
					 sub->total >= 0 ? psprintf(INT64_FORMAT " record%s", sub->total, sub->total == 1 ? "" : "s")
									 : "readable",
					 NULL);
	else if (sub->state != SUB_SERVICED)
		check_report(context, name, CHECK_UNKNOWN, "the instance left this question unanswered", "Test again.");
	else if (sub->reply.status < 300 || sub->reply.status >= 500)
		check_report(context, name, CHECK_FAILED, said(&sub->reply, &answer), "This should not come back; test again.");
	else if (sub->reply.status == 400)
		check_report(
			context, name, CHECK_FAILED, said(&sub->reply, &answer),
			"This table does not exist there: is the plugin it belongs to active, and is the setting right that names "
			"it?");
	else
		check_report(context, name, CHECK_FAILED, said(&sub->reply, &answer), table_hint(table));
}

static void
report_meta(CheckContext *context, const ServicenowSub *sub)
{
	ServicenowAnswer	answer;
	struct json_object *meta = sub_result(sub, &answer);

	if (meta != NULL)
		check_report(context, "class definitions", CHECK_OK, "the CMDB Meta API answers", NULL);
	else if (sub->state != SUB_SERVICED)
		check_report(context, "class definitions", CHECK_UNKNOWN, "the instance left this question unanswered",
					 "Test again.");
	else
		check_report(context, "class definitions", CHECK_FAILED, said(&sub->reply, &answer),
					 "The CMDB Meta API needs the role itil, and a REST API access policy where an API key is used.");
}

static void
read_lookups(CheckContext *context, const AdapterResponse *response)
{
	Facts			*facts = context->facts;
	ServicenowAnswer answer;
	ServicenowSub	*subs;
	int				 serviced;

	servicenow_answer_open(response, &answer);
	if (response->status != 200 || !json_is_object(answer.root))
	{
		report_user(context);
		fail(
			context, "batch", said(response, &answer),
			"The Batch API (/api/now/v1/batch) must be open to this user: role snc_platform_rest_api_access where REST is "
			"restricted, a scope or REST API access policy where those are used.");
		return;
	}
	subs = servicenow_batch_open(answer.root, SUB_TABLES + facts->ntables, &serviced, NULL);
	read_properties(context, &subs[SUB_PROPERTIES]);
	read_roles(context, &subs[SUB_ROLES]);
	read_choice(context, &subs[SUB_CHOICE]);
	report_instance(context);
	report_user(context);
	for (int i = 0; i < facts->ntables; i++)
		report_table(context, facts->tables[i], &subs[SUB_TABLES + i]);
	report_meta(context, &subs[SUB_META]);
}

/* -------------------------------------------------------------- the dry run */

static void
append_probe(StringInfo body, CheckContext *context, const char *class)
{
	Facts *facts = context->facts;

	json_append_comma(body);
	appendStringInfoChar(body, '{');
	json_append_member(body, "className", class);
	appendStringInfoString(body, ",\"values\":{\"name\":\"pgsync_itsm connection test\",\"version\":\"1\"");
	if (strcmp(class, "cmdb_ci_business_app") == 0 && facts->user_id != NULL)
		json_append_member(body, "it_application_owner", facts->user_id);
	appendStringInfoString(body, "},\"sys_object_source_info\":{");
	json_append_member(body, "source_name", context->conn->source_name);
	json_append_member(body, "source_native_key", psprintf("pgsync_itsm/test/%s", class));
	appendStringInfoString(body, "}}");
}

/* /queryEnhanced says what would happen, and commits nothing (servicenow-api 5.1). */
static bool
build_dry_run(CheckContext *context, AdapterRequest *request)
{
	Facts		  *facts = context->facts;
	StringInfoData body;
	StringInfoData path;

	if (facts->nclasses == 0)
		choose_tables(context);
	initStringInfo(&body);
	appendStringInfoString(&body, "{\"items\":[");
	for (int i = 0; i < facts->nclasses; i++)
		append_probe(&body, context, facts->classes[i]);
	appendStringInfoString(&body, "]}");
	initStringInfo(&path);
	appendStringInfoString(&path, "/api/now/identifyreconcile/queryEnhanced?sysparm_data_source=");
	servicenow_query_encode(&path, context->conn->source_name);
	appendStringInfoString(&path, "&options=");
	servicenow_query_encode(
		&path, "partial_payloads:false,partial_commits:true,deduplicate_payloads:true,generate_summary:false");
	request->method = "POST";
	request->path = path.data;
	request->content_type = "application/json";
	request->body = body.data;
	request->body_len = body.len;
	return true;
}

/* What the dry run says of one class; NULL: it would be taken. */
static const char *
probe_error(struct json_object *result, const char **code)
{
	AdapterOutcome outcome = {0};

	*code = NULL;
	if (result == NULL)
		return "no answer";
	if (!servicenow_ire_errors(result, &outcome))
		return NULL;
	*code = json_to_utf8(outcome.error_class);
	return json_to_utf8(outcome.message);
}

/* Our probe is poorer than a real record: that a column is mandatory is no fault. */
static bool
is_about_the_probe(const char *code)
{
	return code != NULL &&
		   (strcmp(code, "REQUIRED_ATTRIBUTE_EMPTY") == 0 || strcmp(code, "MISSING_MATCHING_ATTRIBUTES") == 0 ||
			strcmp(code, "MISSING_DEPENDENCY") == 0 || strcmp(code, "ABANDONED") == 0);
}

static bool
is_about_the_source(const char *code, const char *message)
{
	return code != NULL && strcmp(code, "INVALID_INPUT_DATA") == 0 && strstr(message, "data source") != NULL;
}

typedef struct DryRun
{
	bool		   usable;
	bool		   source_missing;
	const char	  *why;		 /* of a refusal as a whole, or of the source */
	StringInfoData accepted; /* classes, in words */
	StringInfoData refused;	 /* classes with reasons */
} DryRun;

static void
open_dry_run(CheckContext *context, const AdapterResponse *response, DryRun *run)
{
	Facts				*facts = context->facts;
	ServicenowAnswer	 answer;
	struct json_object **results;

	memset(run, 0, sizeof(*run));
	initStringInfo(&run->accepted);
	initStringInfo(&run->refused);
	servicenow_answer_open(response, &answer);
	if (response->status != 200 || !json_is_object(result_of(&answer)))
	{
		run->why = is_page(response) ? "a web page came back instead of JSON" : said(response, &answer);
		return;
	}
	run->usable = true;
	results = servicenow_ire_results(json_member(result_of(&answer), "items"), facts->nclasses);
	for (int i = 0; i < facts->nclasses; i++)
	{
		const char *code;
		const char *message = probe_error(results[i], &code);
		StringInfo	into = message == NULL || is_about_the_probe(code) ? &run->accepted : &run->refused;

		if (message != NULL && is_about_the_source(code, message))
		{
			run->source_missing = true;
			run->why = message;
		}
		appendStringInfo(into, "%s%s", into->len > 0 ? ", " : "", facts->classes[i]);
		if (into == &run->refused)
			appendStringInfo(into, " (%s)", json_excerpt(message, strlen(message), 200));
	}
}

static const char *const dry_run_hint =
	"Identification and reconciliation needs the role itil (or asset); cmdb_read and cmdb_write are not enough. Where an API key is "
	"used, it needs a REST API access policy of its own.";

/* A right that no dry run shows: by role, or unknown. */
static void
report_write(CheckContext *context, const char *what, const char *const *roles)
{
	Facts	   *facts = context->facts;
	const char *name = psprintf("write %s", what);

	if (!facts->roles_known)
	{
		check_report(context, name, CHECK_UNKNOWN, "the user may not read its roles, and nothing is written to try",
					 NULL);
		return;
	}
	for (int i = 0; roles[i] != NULL; i++)
	{
		if (has_role(facts, roles[i]))
		{
			check_report(context, name, CHECK_OK, psprintf("by role %s", roles[i]), NULL);
			return;
		}
	}
	check_report(context, name, CHECK_UNKNOWN, "by none of the roles that usually give it",
				 psprintf("If %s are to be published, give the user the role %s.", what, roles[0]));
}

static void
report_write_rights(CheckContext *context, const DryRun *run)
{
	static const char *const ci_roles[] = {"itil", "admin", "sn_cmdb_editor", NULL};
	static const char *const model_roles[] = {"model_manager", "asset", "admin", NULL};
	static const char *const contract_roles[] = {"contract_manager", "admin", NULL};
	static const char *const company_roles[] = {"itil", "admin", NULL};

	if (!run->usable || run->source_missing)
		report_write(context, "CIs", ci_roles);
	else if (run->refused.len > 0)
		check_report(context, "write CIs", CHECK_FAILED, psprintf("the dry run refuses %s", run->refused.data),
					 "The codes are explained in the documentation of identification and reconciliation.");
	else
		check_report(context, "write CIs", CHECK_OK, psprintf("the dry run accepts %s", run->accepted.data), NULL);
	report_write(context, "relationships", ci_roles);
	report_write(context, "product models", model_roles);
	report_write(context, "contracts", contract_roles);
	if (setting_is(context, "create_companies", "true"))
		report_write(context, "companies", company_roles);
}

static const char *
source_detail(CheckContext *context, const char *what)
{
	return psprintf("\"%s\" %s among the choices of cmdb_ci.discovery_source", context->conn->source_name, what);
}

static const char *
source_hint(CheckContext *context)
{
	return psprintf(
		"SELECT itsm_prepare_instance(connection_id); or let an administrator create a choice (sys_choice): table "
		"cmdb_ci, element discovery_source, value and label %s, language en, not inactive.",
		context->conn->source_name);
}

static void
report_data_source(CheckContext *context, const DryRun *run)
{
	Facts *facts = context->facts;

	if (run->source_missing || (!run->usable && facts->choice == TRI_NO))
		check_report(context, "data source", CHECK_FAILED, source_detail(context, "is not"), source_hint(context));
	else if (run->usable || facts->choice == TRI_YES)
		check_report(context, "data source", CHECK_OK, source_detail(context, "is"), NULL);
	else
		check_report(context, "data source", CHECK_UNKNOWN, "neither choices nor dry run can be read", NULL);
}

static void
report_native_keys(CheckContext *context)
{
	Facts *facts = context->facts;

	if (facts->skips_native_keys)
		check_report(
			context, "native keys", CHECK_FAILED, SKIP_NATIVE_KEYS " is true",
			"Set that system property to false: without it, records are told apart by name only, and two with one name "
			"become one.");
	else if (facts->properties_known)
		check_report(context, "native keys", CHECK_OK, "records are identified by source name and native key", NULL);
	else
		check_report(context, "native keys", CHECK_UNKNOWN, "system properties are not readable for this user",
					 "Ask an administrator whether " SKIP_NATIVE_KEYS " is true; it must not be.");
}

static void
read_dry_run(CheckContext *context, const AdapterResponse *response)
{
	DryRun run;

	open_dry_run(context, response, &run);
	report_write_rights(context, &run);
	report_data_source(context, &run);
	if (run.usable)
		check_report(context, "dry run", CHECK_OK, "identification and reconciliation answers", NULL);
	else
		check_report(context, "dry run", CHECK_FAILED, run.why, dry_run_hint);
	report_native_keys(context);
}

/* -------------------------------------------------- itsm_prepare_instance() */

static void
read_probe(CheckContext *context, const AdapterResponse *response)
{
	DryRun run;

	open_dry_run(context, response, &run);
	context->detail = run.why;
	if (!run.usable)
	{
		context->prepared = CHECK_CANNOT_PREPARE;
		context->hint = response->status == 401 ? login_hint(context->auth_type) : dry_run_hint;
	}
	else if (run.source_missing)
	{
		context->prepared = CHECK_NOT_PREPARED;
		context->hint = "The choice is there, but the instance does not use it yet; call this again in a minute.";
	}
	else
		context->prepared = CHECK_PREPARED;
}

static bool
build_registration(CheckContext *context, AdapterRequest *request)
{
	StringInfoData body;

	initStringInfo(&body);
	appendStringInfoChar(&body, '{');
	json_append_member(&body, "name", "cmdb_ci");
	json_append_member(&body, "element", "discovery_source");
	json_append_member(&body, "value", context->conn->source_name);
	json_append_member(&body, "label", context->conn->source_name);
	json_append_member(&body, "language", "en");
	json_append_member(&body, "inactive", "false");
	appendStringInfoChar(&body, '}');
	request->method = "POST";
	request->path = servicenow_query_table_url("sys_choice", NULL);
	request->content_type = "application/json";
	request->body = body.data;
	request->body_len = body.len;
	request->writes = true;
	return true;
}

static void
read_registration(CheckContext *context, const AdapterResponse *response)
{
	ServicenowAnswer answer;

	servicenow_answer_open(response, &answer);
	if (response->status == 201)
	{
		context->prepared = CHECK_PREPARED;
		return;
	}
	context->prepared = CHECK_CANNOT_PREPARE;
	context->detail = said(response, &answer);
	context->hint =
		psprintf("Let an administrator of the instance create a choice (sys_choice): table cmdb_ci, element "
				 "discovery_source, value %s, label %s, language en, inactive false.",
				 context->conn->source_name, context->conn->source_name);
}

static const CheckStep steps[] = {
	{.build = build_user, .read = read_user},
	{.build = build_lookups, .read = read_lookups},
	{.build = build_dry_run, .read = read_dry_run},
};

const CheckPlatform servicenow_checks = {
	.platform = "servicenow",
	.facts_size = sizeof(Facts),
	.steps = steps,
	.nsteps = lengthof(steps),
	.probe = {build_dry_run, read_probe},
	.registration = {.build = build_registration, .read = read_registration},
	.checklist = &servicenow_checklist,
};
