/*
 * check.c
 *	  itsm_test_connection(), itsm_prepare_instance(), itsm_halo_setup() and the
 *	  look-ups of itsm_checklist(): HTTP in the caller's backend.
 *
 * Bounded to 30 s together, interruptible, each step its own short statement.
 * Credentials are opened in C only.  What is asked of a platform and how its
 * answers read stands in the platform's file (check.h); nothing is written
 * there but by itsm_prepare_instance(), and by itsm_halo_setup() if it is told to.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "adapter.h"
#include "check.h"
#include "compat.h"
#include "connection.h"
#include "http.h"
#include "json.h"
#include "oauth.h"
#include "queue.h"
#include "secrets.h"

#define BUDGET_MS 30000
#define POLL_MS 1000

PG_FUNCTION_INFO_V1(check_url);
PG_FUNCTION_INFO_V1(check_test_connection);
PG_FUNCTION_INFO_V1(check_prepare_instance);
PG_FUNCTION_INFO_V1(check_look_up);
PG_FUNCTION_INFO_V1(check_halo_setup);

/* One call of one of the two functions; everything in it is the caller's memory. */
typedef struct Check
{
	pg_uuid_t			 id;
	QueueConnection		*info;
	AdapterConnection	 conn;
	const CheckPlatform *platform;
	CheckContext		 context;
	TimestampTz			 end;
	HttpEngine			*engine;
	HttpTransfer		*transfer; /* the last one, whose result is still looked at */
	OauthState			*oauth;
	bool				 connected; /* some answer has come */
	int					 requests;
	int64				 rate_limit;
	const char			*rate_rule;
	bool				 rate_seen;
} Check;

static const CheckPlatform *const platforms[] = {&servicenow_checks, &halo_checks};

/* pgsync_itsm.check_url(url text) returns text */
Datum
check_url(PG_FUNCTION_ARGS)
{
	char *reason;

	if (http_check_url(text_to_cstring(PG_GETARG_TEXT_PP(0)), &reason))
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(reason));
}

void
check_report(CheckContext *context, const char *name, CheckVerdict verdict, const char *detail, const char *hint)
{
	CheckRow *row = palloc(sizeof(CheckRow));

	row->name = name;
	row->verdict = verdict;
	row->detail = detail;
	row->hint = hint;
	context->rows = lappend(context->rows, row);
}

void
check_keep_id(CheckContext *context, const char *name, int64 id)
{
	CheckId *kept = palloc(sizeof(CheckId));

	kept->name = name;
	kept->id = id;
	context->ids = lappend(context->ids, kept);
}

static void
report_failure(Check *check, const char *name, const char *detail, const char *hint)
{
	check_report(&check->context, name, CHECK_FAILED, detail, hint);
	check->context.stop = true;
}

/* -------------------------------------------------- what is known of the connection */

/* Raises the usual errors if it is not there, not visible, or not the caller's. */
static void
check_own(const pg_uuid_t *id)
{
	Oid	  types[] = {UUIDOID};
	Datum value = UUIDPGetDatum(id);

	if (SPI_execute_with_args("SELECT 1 FROM pgsync_itsm.own_connection($1)", 1, types, &value, NULL, false, 1) !=
		SPI_OK_SELECT)
		elog(ERROR, "the connection cannot be read");
}

static void
find_platform(Check *check)
{
	for (int i = 0; i < (int) lengthof(platforms); i++)
	{
		if (strcmp(platforms[i]->platform, check->info->platform) == 0)
			check->platform = platforms[i];
	}
	if (check->platform == NULL)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("connections to \"%s\" cannot be tested", check->info->platform)));
}

static void
load_connection(Check *check)
{
	MemoryContext caller = CurrentMemoryContext;
	const char	 *reason;
	JsonDoc		 *settings;

	SPI_connect();
	check_own(&check->id);
	MemoryContextSwitchTo(caller);
	check->info = queue_connection(&check->id);
	SPI_finish();
	if (check->info == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("connection %s does not exist",
							   DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(&check->id))))));
	find_platform(check);
	settings = json_doc_parse(check->info->settings, strlen(check->info->settings), &reason);
	if (settings == NULL)
		elog(ERROR, "the settings of the connection cannot be read: %s", reason);
	check->conn.settings = settings->root;
	check->conn.source_name = json_text(settings->root, "source_name");
	check->conn.write_api = json_text(settings->root, "write_api");
	check->context.conn = &check->conn;
	check->context.auth_type = check->info->auth_type;
	check->context.address = check->info->instance_url;
	check->context.token_address = connection_token_url(check->info);
	check->context.facts = palloc0(check->platform->facts_size);
}

/* Opens the credentials, hands them to a state that zeroes them, and forgets them. */
static void
open_credentials(Check *check)
{
	const QueueConnection *info = check->info;
	const char *refs[] = {info->client_id_ref, info->client_secret_ref, info->username_ref, info->password_ref,
						  info->api_key_ref};
	char	   *secrets[lengthof(refs)];
	size_t		lens[lengthof(refs)];
	OauthConfig config = {0};

	for (int i = 0; i < (int) lengthof(refs); i++)
		secrets[i] = secrets_open_for(refs[i], &info->namespace_id, &lens[i]);
	config.auth_type = info->auth_type;
	config.grant = info->oauth_grant;
	config.platform = info->platform;
	config.token_url = connection_token_url(info);
	config.scope = connection_token_scope(info);
	config.client_id = secrets[0];
	config.client_secret = secrets[1];
	config.username = secrets[2];
	config.password = secrets[3];
	config.api_key = secrets[4];
	config.client_cert_file = info->client_cert_file;
	config.client_key_file = info->client_key_file;
	check->oauth = oauth_create(&config);
	for (int i = 0; i < (int) lengthof(refs); i++)
		secrets_close(secrets[i], lens[i]);
}

/* ------------------------------------------------------------------- sending */

static long
time_left_ms(const Check *check)
{
	return (long) Max((check->end - GetCurrentTimestamp()) / 1000, 0);
}

static void
note_limits(Check *check, const HttpResult *result)
{
	if (!result->rate_headers)
		return;
	check->rate_seen = true;
	check->rate_limit = result->rate_limit;
	check->rate_rule = pstrdup(result->rate_rule);
}

static void
forget_transfer(Check *check)
{
	if (check->transfer != NULL)
		http_transfer_free(check->transfer);
	check->transfer = NULL;
}

/*
 * Sends and waits.  The result is good until the next send; NULL if the time of
 * the whole is over.  Clears the request.
 */
static const HttpResult *
send_request(Check *check, HttpRequest *request)
{
	long		  left = time_left_ms(check);
	HttpTransfer *transfer;

	forget_transfer(check);
	if (left <= 0)
	{
		http_request_clear(request);
		return NULL;
	}
	request->timeout_ms = (int) Min(http_request_timeout(request->timeout_ms), left);
	transfer = http_submit(check->engine, request);
	http_request_clear(request);
	check->requests++;
	if (!http_perform(check->engine, transfer, left))
	{
		http_cancel(transfer);
		return NULL;
	}
	check->transfer = transfer;
	note_limits(check, http_result(transfer));
	return http_result(transfer);
}

static void
fill_response(const HttpResult *result, AdapterResponse *response)
{
	memset(response, 0, sizeof(*response));
	response->retry_after_s = -1;
	response->body = "";
	if (result == NULL)
	{
		response->transport_class = "TIMEOUT";
		response->transport_message = "the time for the whole check is over";
		return;
	}
	response->status = result->status;
	response->transport_class = result->error_class;
	response->transport_message = result->message ? pstrdup(result->message) : NULL;
	response->content_type = result->content_type;
	response->body = result->body;
	response->body_len = result->body_len;
	response->retry_after_s = result->retry_after_s;
	response->rate_headers = result->rate_headers;
}

/* ------------------------------------------------------- address, network, token */

static const char *
transport_hint(const char *class)
{
	if (strcmp(class, "RESOLVE") == 0)
		return "Is the name spelled right, and can the database server resolve it?";
	if (strcmp(class, "CONNECT") == 0)
		return "May the database server reach that host (firewall, network policy)? A proxy is named in "
			   "pgsync_itsm.https_proxy.";
	if (strcmp(class, "TLS") == 0)
		return "Where the network inspects TLS, or the instance has a certificate of its own authority, name that "
			   "authority's file in pgsync_itsm.ca_file; client certificate and key must be readable for the server.";
	if (strcmp(class, "TIMEOUT") == 0)
		return "The instance may be overloaded or asleep; pgsync_itsm.request_timeout bounds one request.";
	return "Try again; if it stays, look whether something between here and the instance breaks connections.";
}

/* The first answer, whatever it says, proves that the network works. */
static bool
report_connection(Check *check, const HttpResult *result)
{
	const char *over =
		strncmp(check->info->instance_url, "https:", 6) == 0 ? "TLS, certificate verified" : "plain http";

	if (check->connected)
		return true;
	if (result == NULL || result->status == 0)
	{
		report_failure(check, "connect", result ? pstrdup(result->message) : "no answer within 30 s",
					   transport_hint(result ? result->error_class : "TIMEOUT"));
		return false;
	}
	check->connected = true;
	check_report(&check->context, "connect", CHECK_OK,
				 psprintf("%s; answered in %.0f ms", over, (double) result->elapsed_us / 1000), NULL);
	return true;
}

static bool
address_is_good(Check *check)
{
	char *reason;

	if (http_check_url(check->info->instance_url, &reason))
	{
		check_report(&check->context, "address", CHECK_OK, check->info->instance_url, NULL);
		return true;
	}
	report_failure(check, "address", psprintf("%s: %s", check->info->instance_url, reason),
				   "ALTER SYSTEM SET pgsync_itsm.allowed_hosts = '...'; SELECT pg_reload_conf();");
	return false;
}

static const char *
auth_words(const char *auth_type)
{
	if (strcmp(auth_type, "basic") == 0)
		return "none needed: user name and password go with each request";
	if (strcmp(auth_type, "api_key") == 0)
		return "none needed: the API key goes with each request";
	return "none needed: the client certificate speaks for itself";
}

/* True if requests can be authorized. */
static bool
get_token(Check *check)
{
	HttpRequest		  request;
	const HttpResult *result;
	char			 *error;
	char			 *hint;

	if (!oauth_needs_token(check->oauth, GetCurrentTimestamp()))
		return true;
	oauth_token_request(check->oauth, &request);
	result = send_request(check, &request);
	if (!report_connection(check, result))
		return false;
	if (result == NULL)
	{
		report_failure(check, "token", "no answer in time", transport_hint("TIMEOUT"));
		return false;
	}
	if (oauth_token_response(check->oauth, result, &error, &hint) == OAUTH_GRANTED)
	{
		check->context.granted_scope = oauth_granted_scope(check->oauth);
		check_report(&check->context, "token", CHECK_OK,
					 psprintf("granted (%s)", check->info->oauth_grant ? check->info->oauth_grant : "oauth2"), NULL);
		return true;
	}
	report_failure(check, "token", json_to_utf8(error), hint ? json_to_utf8(hint) : NULL);
	return false;
}

/* ------------------------------------------------------------ the platform's steps */

/* True if a request could be asked and its answer read. */
static bool
ask_step(Check *check, const CheckStep *step, const AdapterRequest *asked, bool authorized)
{
	AdapterResponse	  response;
	HttpRequest		  request;
	const HttpResult *result;

	http_request_init(&request, asked->method, psprintf("%s%s", check->info->instance_url, asked->path));
	request.content_type = asked->content_type;
	request.body = asked->body;
	request.body_len = asked->body_len;
	request.once = asked->writes;
	if (authorized)
		oauth_authorize(check->oauth, &request);
	result = send_request(check, &request);
	if (!report_connection(check, result))
		return false;
	if (strcmp(check->info->auth_type, "oauth2") != 0 && check->requests == 1)
		check_report(&check->context, "token", CHECK_OK, auth_words(check->info->auth_type), NULL);
	fill_response(result, &response);
	step->read(&check->context, &response);
	return true;
}

/* True if the step has been asked and read, or has nothing to ask. */
static bool
run_step(Check *check, const CheckStep *step, bool authorized)
{
	do
	{
		AdapterRequest asked = {0};

		if (!step->build(&check->context, &asked))
			return true;
		if (!ask_step(check, step, &asked, authorized))
			return false;
	} while (step->repeats && !check->context.stop);
	return true;
}

/* Connects, and is ready to ask; false if a row says why not. */
static bool
open_connection(Check *check)
{
	if (!address_is_good(check))
		return false;
	open_credentials(check);
	check->engine = http_engine_create();
	if (check->platform->greeting != NULL &&
		(!run_step(check, check->platform->greeting, false) || check->context.stop))
		return false;
	return get_token(check);
}

static CheckRow *
find_row(Check *check, const char *name)
{
	ListCell *lc;

	foreach (lc, check->context.rows)
	{
		CheckRow *row = lfirst(lc);

		if (strcmp(row->name, name) == 0)
			return row;
	}
	return NULL;
}

/* The first test remembers who answered; another one later is another instance. */
static void
compare_instance(Check *check)
{
	const char *name = check->context.instance_name;
	CheckRow   *row = find_row(check, "instance");
	Oid			types[] = {UUIDOID, TEXTOID};
	Datum		values[2];
	bool		isnull;
	bool		same;

	if (name == NULL || row == NULL)
		return;
	values[0] = UUIDPGetDatum(&check->id);
	values[1] = CStringGetTextDatum(json_to_server(name));
	SPI_connect();
	if (SPI_execute_with_args("SELECT pgsync_itsm.keep_instance_name($1, $2)", 2, types, values, NULL, false, 1) !=
			SPI_OK_SELECT ||
		SPI_processed != 1)
		elog(ERROR, "the name of the instance cannot be stored");
	same = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull)) && !isnull;
	SPI_finish();
	if (same)
		return;
	row->verdict = CHECK_FAILED;
	row->detail = psprintf("%s; this connection was made for another instance", row->detail);
	row->hint = "If the instance was moved or renamed: SELECT itsm_adopt(connection_id); else correct the address.";
}

static void
call_with_text(Check *check, const char *sql, const char *first, const char *second)
{
	Oid	  types[] = {UUIDOID, TEXTOID, TEXTOID};
	Datum values[3];
	int	  n = second ? 3 : 2;

	values[0] = UUIDPGetDatum(&check->id);
	values[1] = CStringGetTextDatum(json_to_server(first));
	values[2] = second ? CStringGetTextDatum(json_to_server(second)) : (Datum) 0;
	SPI_connect();
	if (SPI_execute_with_args(sql, n, types, values, NULL, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "what was found there cannot be stored");
	SPI_finish();
}

/* What the steps have found there is kept with the connection. */
static void
keep_ids(Check *check)
{
	StringInfoData ids;
	ListCell	  *lc;

	if (check->context.ids == NIL)
		return;
	initStringInfo(&ids);
	appendStringInfoChar(&ids, '{');
	foreach (lc, check->context.ids)
	{
		CheckId *kept = lfirst(lc);

		json_append_comma(&ids);
		json_append_string(&ids, kept->name);
		appendStringInfo(&ids, ":" INT64_FORMAT, kept->id);
	}
	appendStringInfoChar(&ids, '}');
	call_with_text(check, "SELECT pgsync_itsm.keep_ids($1, $2)", ids.data, NULL);
}

static void
report_limits(Check *check)
{
	const char *detail;

	if (!check->connected)
		return;
	if (!check->rate_seen)
		detail = "no rate limit was announced";
	else if (check->rate_limit < 0)
		detail = "a rate limit is in force, its size was not told";
	else
		detail = psprintf(INT64_FORMAT " requests an hour for this user (rule %s)", check->rate_limit,
						  check->rate_rule[0] ? json_excerpt(check->rate_rule, strlen(check->rate_rule), 40)
											  : "without name");
	check_report(&check->context, "limits", CHECK_OK, detail, NULL);
}

/* ------------------------------------------------------------------ the sources */

static const char *
column_text(int row, int column)
{
	char *text = SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column);

	return text ? json_to_utf8(text) : NULL;
}

static void
report_source(Check *check, const char *entity_type, const char *rows, const char *error)
{
	const char *name = psprintf("source %s", entity_type);

	if (error != NULL)
		check_report(&check->context, name, CHECK_FAILED, error,
					 "The source is read as the connection's owner, with its session_settings: does that role have "
					 "the rights?");
	else if (strcmp(rows, "0") == 0)
		check_report(&check->context, name, CHECK_UNKNOWN, "0 rows",
					 "If there should be some: does row-level security hide them from the connection's owner? See "
					 "session_settings of the connection.");
	else
		check_report(&check->context, name, CHECK_OK, psprintf("%s row%s", rows, strcmp(rows, "1") == 0 ? "" : "s"),
					 NULL);
}

static void
report_sources(Check *check)
{
	MemoryContext caller = CurrentMemoryContext;
	Oid			  types[] = {UUIDOID};
	Datum		  value = UUIDPGetDatum(&check->id);
	uint64		  n;

	SPI_connect();
	if (SPI_execute_with_args("SELECT entity_type, rows, error FROM pgsync_itsm.source_row_counts($1)", 1, types,
							  &value, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "the sources cannot be counted");
	MemoryContextSwitchTo(caller);
	n = SPI_processed;
	for (uint64 i = 0; i < n; i++)
		report_source(check, column_text((int) i, 1), column_text((int) i, 2), column_text((int) i, 3));
	SPI_finish();
	if (n == 0)
		check_report(&check->context, "sources", CHECK_FAILED, "the connection has no source",
					 "SELECT itsm_attach_getinsync();");
}

/* ------------------------------------------------------------------ the functions */

static void
start_check(Check *check, FunctionCallInfo fcinfo, const char *function)
{
	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("connection_id must not be null")));
	PreventCommandIfReadOnly(function);
	if (IsTransactionBlock())
		ereport(WARNING, (errmsg("%s waits for the network while this transaction is open", function),
						  errhint("Call it outside a transaction block.")));
	memset(check, 0, sizeof(*check));
	check->id = *PG_GETARG_UUID_P(0);
	check->end = GetCurrentTimestamp() + (TimestampTz) BUDGET_MS * 1000;
	load_connection(check);
}

static void
end_check(Check *check)
{
	if (check->engine != NULL)
		http_engine_destroy(check->engine);
	if (check->oauth != NULL)
		oauth_destroy(check->oauth);
}

/* True if nothing failed. */
static bool
put_rows(Check *check, ReturnSetInfo *rsinfo)
{
	ListCell *lc;
	bool	  all_good = true;

	foreach (lc, check->context.rows)
	{
		CheckRow *row = lfirst(lc);
		Datum	  values[4];
		bool	  nulls[4] = {false};

		values[0] = CStringGetTextDatum(json_to_server(row->name));
		values[1] = BoolGetDatum(row->verdict == CHECK_OK);
		nulls[1] = row->verdict == CHECK_UNKNOWN;
		values[2] = CStringGetTextDatum(json_to_server(row->detail));
		nulls[3] = row->hint == NULL;
		values[3] = nulls[3] ? (Datum) 0 : CStringGetTextDatum(json_to_server(row->hint));
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
		all_good = all_good && row->verdict != CHECK_FAILED;
	}
	return all_good;
}

/* itsm_test_connection(connection_id uuid) returns table("check" text, ok boolean, detail text, hint text) */
Datum
check_test_connection(PG_FUNCTION_ARGS)
{
	Check check;

	InitMaterializedSRF(fcinfo, 0);
	start_check(&check, fcinfo, "itsm_test_connection()");
	if (open_connection(&check))
	{
		for (int i = 0; i < check.platform->nsteps && !check.context.stop; i++)
		{
			if (!run_step(&check, &check.platform->steps[i], true))
				break;
		}
		compare_instance(&check);
		keep_ids(&check);
		report_limits(&check);
	}
	end_check(&check);
	report_sources(&check);
	if (put_rows(&check, (ReturnSetInfo *) fcinfo->resultinfo))
		ereport(NOTICE, (errmsg("next: SELECT itsm_activate('%s');",
								DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(&check.id))))));
	PG_RETURN_NULL();
}

/* pgsync_itsm.look_up(connection_id uuid) returns table("check" text, ok boolean, detail text, hint text) */
Datum
check_look_up(PG_FUNCTION_ARGS)
{
	Check check;

	InitMaterializedSRF(fcinfo, 0);
	start_check(&check, fcinfo, "itsm_checklist()");
	if (check.platform->checklist != NULL && open_connection(&check))
		run_step(&check, check.platform->checklist, true);
	end_check(&check);
	put_rows(&check, (ReturnSetInfo *) fcinfo->resultinfo);
	PG_RETURN_NULL();
}

/* Rows are for the test; here the first failure is the error. */
static void
raise_failed_row(Check *check, const char *what)
{
	ListCell *lc;

	foreach (lc, check->context.rows)
	{
		CheckRow *row = lfirst(lc);

		if (row->verdict == CHECK_FAILED)
			ereport(ERROR, (errcode(ERRCODE_CONNECTION_FAILURE), errmsg("%s", what),
							errdetail("%s: %s", row->name, json_to_server(row->detail)),
							row->hint ? errhint("%s", json_to_server(row->hint)) : 0));
	}
	elog(ERROR, "%s", what);
}

static CheckPrepared
ask(Check *check, const CheckStep *step)
{
	check->context.prepared = CHECK_NOT_PREPARED;
	if (!run_step(check, step, true) || check->context.stop)
		raise_failed_row(check, "the instance cannot be prepared");
	return check->context.prepared;
}

static void
raise_cannot_prepare(Check *check)
{
	CheckContext *context = &check->context;

	ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg("the data source \"%s\" could not be registered", json_to_server(check->conn.source_name)),
					context->detail ? errdetail("%s", json_to_server(context->detail)) : 0,
					context->hint ? errhint("%s", json_to_server(context->hint)) : 0));
}

static void
pause_between_polls(void)
{
	static uint32 wait_event = 0;
	int			  events;

	if (wait_event == 0)
		wait_event = compat_wait_event("PgsyncItsmCheck");
	events = WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, POLL_MS, wait_event);
	if (events & WL_LATCH_SET)
		ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/* The platform's caches take seconds to notice. */
static bool
becomes_prepared(Check *check)
{
	while (time_left_ms(check) > POLL_MS)
	{
		CheckPrepared prepared = ask(check, &check->platform->probe);

		if (prepared != CHECK_NOT_PREPARED)
			return prepared == CHECK_PREPARED;
		pause_between_polls();
	}
	return false;
}

/* True if the instance takes our data source at the end. */
static bool
register_source(Check *check)
{
	CheckContext *context = &check->context;
	const char	 *detail;
	const char	 *hint;

	if (ask(check, &check->platform->registration) == CHECK_PREPARED)
		return becomes_prepared(check);

	/* what was refused may have taken place all the same (servicenow-api 2.3) */
	detail = context->detail;
	hint = context->hint;
	if (ask(check, &check->platform->probe) == CHECK_PREPARED)
		return true;
	context->detail = detail;
	context->hint = hint;
	return false;
}

/* itsm_prepare_instance(connection_id uuid) returns text */
Datum
check_prepare_instance(PG_FUNCTION_ARGS)
{
	Check		  check;
	CheckPrepared prepared;
	const char	 *words = "is registered already";

	start_check(&check, fcinfo, "itsm_prepare_instance()");
	if (check.platform->probe.build == NULL)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("there is no data source to register on \"%s\"", check.info->platform),
						errhint("SELECT * FROM itsm_halo_setup('%s');",
								DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(&check.id))))));
	if (!open_connection(&check))
		raise_failed_row(&check, "the instance cannot be prepared");
	prepared = ask(&check, &check.platform->probe);
	if (prepared == CHECK_NOT_PREPARED)
	{
		words = "is registered now";
		if (register_source(&check))
			prepared = CHECK_PREPARED;
	}
	if (prepared != CHECK_PREPARED)
		raise_cannot_prepare(&check);
	end_check(&check);
	ereport(NOTICE, (errmsg("next: SELECT * FROM itsm_test_connection('%s');",
							DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(&check.id))))));
	PG_RETURN_TEXT_P(cstring_to_text(psprintf("data source %s %s", json_to_server(check.conn.source_name), words)));
}

/* ------------------------------------------------------------------ the setup */

/* What publishing needs there, as mapping and settings have it. */
static void
load_things(Check *check)
{
	MemoryContext caller = CurrentMemoryContext;
	Oid			  types[] = {UUIDOID};
	Datum		  value = UUIDPGetDatum(&check->id);

	SPI_connect();
	if (SPI_execute_with_args("SELECT kind, name, class, alternatives FROM pgsync_itsm.halo_wanted($1)", 1, types,
							  &value, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "what is needed there cannot be read");
	MemoryContextSwitchTo(caller);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		CheckThing *thing = palloc0(sizeof(CheckThing));

		thing->kind = column_text((int) i, 1);
		thing->name = column_text((int) i, 2);
		thing->class_name = column_text((int) i, 3);
		thing->alternatives = column_text((int) i, 4);
		check->context.things = lappend(check->context.things, thing);
	}
	SPI_finish();
}

static void
put_thing(ReturnSetInfo *rsinfo, const CheckThing *thing)
{
	Datum		values[5];
	bool		nulls[5] = {false};
	const char *state = thing->state ? thing->state : "missing";

	values[0] = CStringGetTextDatum(json_to_server(thing->kind));
	values[1] = CStringGetTextDatum(json_to_server(thing->name));
	values[2] = Int64GetDatum(thing->id);
	nulls[2] = thing->id == 0;
	values[3] = CStringGetTextDatum(state);
	nulls[4] = thing->detail == NULL;
	values[4] = nulls[4] ? (Datum) 0 : CStringGetTextDatum(json_to_server(thing->detail));
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/* True if nothing is missing. */
static bool
put_things(Check *check, ReturnSetInfo *rsinfo)
{
	ListCell *lc;
	bool	  complete = true;

	foreach (lc, check->context.things)
	{
		const CheckThing *thing = lfirst(lc);

		put_thing(rsinfo, thing);
		complete = complete && (thing->id > 0 || strcmp(thing->kind, "relation kind") == 0);
	}
	return complete;
}

static void
keep_settings(Check *check)
{
	for (int i = 0; i + 1 < list_length(check->context.settings); i += 2)
		call_with_text(check, "SELECT pgsync_itsm.change_setting($1, $2, $3)", list_nth(check->context.settings, i),
					   list_nth(check->context.settings, i + 1));
}

static void
say_next(const Check *check, bool complete)
{
	char *id = DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(&check->id)));

	if (complete)
		ereport(NOTICE, (errmsg("nothing is missing; next: SELECT * FROM itsm_test_connection('%s');", id)));
	else if (!check->context.apply)
		ereport(NOTICE, (errmsg("to make what is missing: SELECT * FROM itsm_halo_setup('%s', apply => true);", id)));
	else
		ereport(NOTICE, (errmsg("something is still missing: repair what the column detail says, then call again")));
}

/* itsm_halo_setup(connection_id uuid, apply boolean) returns table(kind text, name text, id bigint, state text, detail text) */
Datum
check_halo_setup(PG_FUNCTION_ARGS)
{
	Check check;

	InitMaterializedSRF(fcinfo, 0);
	start_check(&check, fcinfo, "itsm_halo_setup()");
	if (check.platform->setup == NULL)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("connections to \"%s\" need no such setup", check.info->platform)));
	check.context.apply = !PG_ARGISNULL(1) && PG_GETARG_BOOL(1);
	load_things(&check);
	if (!open_connection(&check))
		raise_failed_row(&check, "the platform cannot be looked at");
	for (int i = 0; i < check.platform->nsetup && !check.context.stop; i++)
	{
		if (!run_step(&check, &check.platform->setup[i], true))
			break;
	}
	end_check(&check);
	if (check.context.stop)
		raise_failed_row(&check, "the platform cannot be looked at");
	keep_ids(&check);
	keep_settings(&check);
	say_next(&check, put_things(&check, (ReturnSetInfo *) fcinfo->resultinfo));
	PG_RETURN_NULL();
}
