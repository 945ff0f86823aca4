/*
 * source.c
 *	  The only place where SQL that users wrote is run: sources, filters and
 *	  mapping expressions, as the connection's owner, read-only and bounded.
 *
 * What is run is composed in SQL (pgsync_itsm.source_task); here it is checked
 * to be one SELECT, and run between a switch to the owner and a switch back.
 * No table of the extension is read while the owner's rights are in force, and
 * nothing of the owner's runs while they are not.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#include "postgres.h"

#include <ctype.h>
#include <limits.h>

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "executor/tstoreReceiver.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "parser/parser.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/guc_tables.h"
#include "utils/plancache.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timeout.h"
#include "utils/uuid.h"

#include "compat.h"
#include "pgsync_itsm.h"
#include "source.h"

PG_FUNCTION_INFO_V1(source_read);
PG_FUNCTION_INFO_V1(source_check_sql);
PG_FUNCTION_INFO_V1(source_write);
PG_FUNCTION_INFO_V1(source_changed);
PG_FUNCTION_INFO_V1(source_intake_read);
PG_FUNCTION_INFO_V1(source_intake_write);
PG_FUNCTION_INFO_V1(source_check_expression);
PG_FUNCTION_INFO_V1(source_entity_id);

/* What to run, as whom, under which settings; palloc'd as a whole. */
typedef struct SourceTask
{
	const char *entity_type;
	char	   *connection; /* as text, for messages; NULL: none */
	char	   *query;		/* NULL: there is no such source */
	SPIPlanPtr	plan;		/* kept for the process's life; NULL: none yet */
	char	   *owner_name; /* NULL: whoever calls */
	Oid			owner;
	bool		namespace_null;
	Datum		namespace_id;
	int			nsettings;
	char	  **setting_names;
	char	  **setting_values;
	bool		writes; /* a writer's statement, and not a source */
	Datum		fields; /* that it writes; 0: it only says when a row was changed */
	const char *intake; /* what is asked or done of an intake, and not of a writer */
	Datum		columns;
} SourceTask;

/* What was in force before the switch. */
typedef struct SourceSwitch
{
	Oid	 user;
	int	 sec_context;
	int	 guc_level;
	bool timer;
} SourceSwitch;

/*
 * A source that was read by keys, to be read so again: composing and planning
 * its statement takes longer than running it for one record.
 */
typedef struct KeptTask
{
	struct KeptTask *next;
	MemoryContext	 context; /* holds all of it */
	char			*name;	  /* connection, entity type, match_by */
	char			*version; /* of what it was composed from */
	SourceTask		 task;
} KeptTask;

/* The last ones that were used; a plan may take a megabyte. */
#define MAX_KEPT_TASKS 20

/* For more keys a plan made for them is worth its time. */
#define MAX_KEPT_KEYS 100

static KeptTask *kept_tasks = NULL;
static int		 nkept_tasks = 0;

/* A function of a user may catch that it is cancelled, and go on. Nobody can catch that the process ends. */
#define LAST_RESORT_MS 5000

static TimeoutId limit_timeout = MAX_TIMEOUTS;

/* Sources being read: user SQL may call read_source() again, and then nothing is kept or forgotten. */
static int reading = 0;

/* Settings that the text of values depends on, and with it the hash of a payload; and what planning sets for itself. */
static const char *const fixed_settings[][2] = {
	{"search_path", "pg_catalog, pg_temp"},
	{"row_security", "on"},
	{"transaction_read_only", "on"},
	{"DateStyle", "ISO, YMD"},
	{"IntervalStyle", "postgres"},
	{"TimeZone", "UTC"},
	{"extra_float_digits", "1"},
	{"bytea_output", "hex"},
	{"jit", "off"},
	{"plan_cache_mode", "auto"},
};

/*
 * An error that points into the composed query, which nobody wrote, points
 * into the line instead: that is the source's own line, or an expression.
 */
static void
point_into_line(const char *query)
{
	int			position = getinternalerrposition();
	const char *line = query;
	const char *end;
	int			column = position;
	int			i;

	if (query == NULL || position <= 0)
		return;
	for (i = 1; *query != '\0' && i < position; i++)
	{
		bool newline = *query == '\n';

		query += pg_mblen(query);
		if (newline)
		{
			line = query;
			column = position - i;
		}
	}
	end = strchr(line, '\n');
	internalerrquery(end ? pnstrdup(line, end - line) : line);
	internalerrposition(column);
}

static void
error_context(void *arg)
{
	SourceTask *task = arg;

	if (task->intake)
	{
		errcontext("intake (%s) of %s of connection %s", task->intake, task->entity_type, task->connection);
		return;
	}
	if (task->writes)
	{
		errcontext("writer of entity type \"%s\" of connection %s", task->entity_type, task->connection);
		return;
	}
	point_into_line(task->query);
	if (task->connection)
		errcontext("source of entity type \"%s\" of connection %s", task->entity_type, task->connection);
	else
		errcontext("source of entity type \"%s\"", task->entity_type);
}

/* The owner of one of our functions is the owner of the extension. */
static Oid
function_owner(Oid function)
{
	HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Oid		  owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for function %u", function);
	owner = ((Form_pg_proc) GETSTRUCT(tuple))->proowner;
	ReleaseSysCache(tuple);
	return owner;
}

/* NULL elements are NULL. */
static char **
text_array(Datum datum, int *count)
{
	Datum *elements;
	bool  *nulls;
	char **result;
	int	   i;

	deconstruct_array(DatumGetArrayTypeP(datum), TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, count);
	result = palloc(sizeof(char *) * (*count + 1));
	for (i = 0; i < *count; i++)
		result[i] = nulls[i] ? NULL : TextDatumGetCString(elements[i]);
	return result;
}

/* The parts of source_task's row, copied to the caller's context. */
static void
copy_task(SourceTask *task, HeapTuple row, TupleDesc desc, MemoryContext context)
{
	MemoryContext old = MemoryContextSwitchTo(context);
	Datum		  value;
	bool		  isnull;
	int			  count;

	value = SPI_getbinval(row, desc, 1, &isnull);
	task->query = isnull ? NULL : TextDatumGetCString(value);
	value = SPI_getbinval(row, desc, 2, &isnull);
	task->owner_name = isnull ? NULL : pstrdup(NameStr(*DatumGetName(value)));
	value = SPI_getbinval(row, desc, 3, &task->namespace_null);
	if (!task->namespace_null)
		task->namespace_id = datumCopy(value, false, UUID_LEN);
	value = SPI_getbinval(row, desc, 4, &isnull);
	task->setting_names = text_array(value, &task->nsettings);
	value = SPI_getbinval(row, desc, 5, &isnull);
	task->setting_values = text_array(value, &count);
	Assert(count == task->nsettings);
	MemoryContextSwitchTo(old);
}

/* Calls a function of ours, by a plan that is kept; one row, in SPI_tuptable. */
static void
call_own(SPIPlanPtr *plan, const char *sql, int nargs, Oid *types, Datum *values, const char *nulls)
{
	if (*plan == NULL)
	{
		*plan = SPI_prepare(sql, nargs, types);
		if (*plan == NULL || SPI_keepplan(*plan) != 0)
			elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
	}
	if (SPI_execute_plan(*plan, values, nulls, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "%s failed", sql);
}

/* The same of a writer. */
static void
read_write_row(SourceTask *task, Datum connection, MemoryContext context)
{
	static SPIPlanPtr plan = NULL;
	Oid				  types[] = {UUIDOID, TEXTOID, TEXTARRAYOID};
	Datum			  values[] = {connection, CStringGetTextDatum(task->entity_type), task->fields};
	const char		  nulls[] = {' ', ' ', task->fields ? ' ' : 'n'};

	call_own(&plan,
			 "SELECT t.query, t.owner, t.namespace_id, t.setting_names, t.setting_values"
			 " FROM pgsync_itsm.write_task($1, $2, $3) AS t",
			 lengthof(types), types, values, nulls);
	if (SPI_processed == 1)
		copy_task(task, SPI_tuptable->vals[0], SPI_tuptable->tupdesc, context);
}

/* The same of an intake. */
static void
read_intake_row(SourceTask *task, Datum connection, MemoryContext context)
{
	static SPIPlanPtr plan = NULL;
	Oid				  types[] = {UUIDOID, TEXTOID, TEXTOID, TEXTARRAYOID};
	Datum			  values[] = {connection, CStringGetTextDatum(task->entity_type), CStringGetTextDatum(task->intake),
								  task->columns};
	const char		  nulls[] = {' ', ' ', ' ', task->columns ? ' ' : 'n'};

	call_own(&plan,
			 "SELECT t.query, t.owner, t.namespace_id, t.setting_names, t.setting_values"
			 " FROM pgsync_itsm.intake_task($1, $2, $3, $4) AS t",
			 lengthof(types), types, values, nulls);
	if (SPI_processed == 1)
		copy_task(task, SPI_tuptable->vals[0], SPI_tuptable->tupdesc, context);
}

static void
read_task_row(SourceTask *task, Datum connection, bool no_connection, const char *match_by, bool with_keys,
			  MemoryContext context)
{
	static SPIPlanPtr plan = NULL;
	Oid				  types[] = {UUIDOID, TEXTOID, TEXTOID, BOOLOID};
	Datum			  values[] = {connection, CStringGetTextDatum(task->entity_type), CStringGetTextDatum(match_by),
								  BoolGetDatum(with_keys)};
	const char		  nulls[] = {no_connection ? 'n' : ' ', ' ', ' ', ' '};

	call_own(&plan,
			 "SELECT t.query, t.owner, t.namespace_id, t.setting_names, t.setting_values"
			 " FROM pgsync_itsm.source_task($1, $2, $3, $4) AS t",
			 lengthof(types), types, values, nulls);
	if (SPI_processed != 1)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("connection %s does not exist", task->connection)));
	copy_task(task, SPI_tuptable->vals[0], SPI_tuptable->tupdesc, context);
}

/* What the task of a source is composed from; NULL if there is no such connection. */
static char *
task_version(const SourceTask *task, Datum connection)
{
	static SPIPlanPtr plan = NULL;
	Oid				  types[] = {UUIDOID, TEXTOID};
	Datum			  values[] = {connection, CStringGetTextDatum(task->entity_type)};

	call_own(&plan, "SELECT pgsync_itsm.source_version($1, $2)", lengthof(types), types, values, NULL);
	return SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
}

static void
forget_task(KeptTask **link)
{
	KeptTask *kept = *link;

	*link = kept->next;
	nkept_tasks--;
	if (kept->task.plan)
		SPI_freeplan(kept->task.plan);
	MemoryContextDelete(kept->context);
}

/* The task of this name if it is still what it would be composed to; it comes first from now on. */
static KeptTask *
find_task(const char *name, const char *version)
{
	KeptTask **link = &kept_tasks;
	KeptTask  *kept;

	while (*link && strcmp((*link)->name, name) != 0)
		link = &(*link)->next;
	kept = *link;
	if (kept == NULL)
		return NULL;
	if (strcmp(kept->version, version) != 0)
	{
		forget_task(link);
		return NULL;
	}
	*link = kept->next;
	kept->next = kept_tasks;
	kept_tasks = kept;
	return kept;
}

static KeptTask *
keep_task(const SourceTask *task, Datum connection, const char *match_by, const char *name, const char *version)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "pgsync_itsm source", ALLOCSET_SMALL_SIZES);
	KeptTask	 *kept = MemoryContextAllocZero(context, sizeof(KeptTask));

	kept->context = context;
	kept->name = MemoryContextStrdup(context, name);
	kept->version = MemoryContextStrdup(context, version);
	kept->task.entity_type = MemoryContextStrdup(context, task->entity_type);
	kept->task.connection = MemoryContextStrdup(context, task->connection);
	read_task_row(&kept->task, connection, false, match_by, true, context);
	while (nkept_tasks >= MAX_KEPT_TASKS && kept_tasks != NULL)
	{
		KeptTask **last = &kept_tasks;

		while ((*last)->next)
			last = &(*last)->next;
		forget_task(last);
	}
	kept->next = kept_tasks;
	kept_tasks = kept;
	nkept_tasks++;
	return kept;
}

/* Throws, the same error, if the connection is not there or the caller does not see it. */
static void
check_seen(Oid caller, Oid owner, Datum connection)
{
	static SPIPlanPtr plan = NULL;
	Oid				  types[] = {UUIDOID};

	if (caller != owner && !superuser_arg(caller))
		call_own(&plan, "SELECT FROM pgsync_itsm.seen_connection($1)", lengthof(types), types, &connection, NULL);
}

/*
 * Reads what is to be run, with the rights of the extension's owner.  Throws
 * if there is no such connection, its owner is gone, or the caller is not a
 * member of its owner.  What is read by keys is kept, and so is its plan.
 */
static SourceTask *
read_task(SourceTask *task, Oid function, Datum connection, bool no_connection, const char *match_by, bool with_keys,
		  bool keep)
{
	MemoryContext context = CurrentMemoryContext;
	char		 *version = NULL;
	Oid			  user;
	int			  sec_context;

	GetUserIdAndSecContext(&user, &sec_context);
	SPI_connect();
	if (!no_connection)
		check_seen(user, function_owner(function), connection);
	SetUserIdAndSecContext(function_owner(function), sec_context | SECURITY_LOCAL_USERID_CHANGE);
	if (keep)
		version = task_version(task, connection);
	if (version)
	{
		char	 *name = psprintf("%s/%s/%s", task->connection, task->entity_type, match_by);
		KeptTask *kept = find_task(name, version);

		task = kept ? &kept->task : &keep_task(task, connection, match_by, name, version)->task;
	}
	else if (task->intake)
		read_intake_row(task, connection, context);
	else if (task->writes)
		read_write_row(task, connection, context);
	else
		read_task_row(task, connection, no_connection, match_by, with_keys, context);
	SetUserIdAndSecContext(user, sec_context);
	SPI_finish();

	task->owner = task->owner_name ? get_role_oid(task->owner_name, false) : user;
	if (!is_member_of_role(user, task->owner))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("must be a member of role \"%s\" to read sources as this role",
							   GetUserNameFromId(task->owner, false))));
	return task;
}

/*
 * With exit_on_error an error ends the process, whoever would catch it: a
 * source that sets it and fails would end the caller's session, or worker and
 * planner again and again.  Anybody may set it; from here on, nobody may while
 * another role's SQL runs.
 */
static void
keep_errors_catchable(void)
{
	static bool				kept = false;
	int						count;
	struct config_generic **all = compat_all_settings(&count);

	for (int i = 0; i < count && !kept; i++)
	{
		if (strcmp(all[i]->name, "exit_on_error") == 0)
			all[i]->flags |= GUC_NOT_WHILE_SEC_REST;
	}
	kept = true;
}

static void
set_here(const char *name, const char *value)
{
	(void) set_config_option(name, value, superuser() ? PGC_SUSET : PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true,
							 0, false);
}

static void
end_process(void)
{
	ProcDiePending = true;
	InterruptPending = true;
	SetLatch(MyLatch);
}

void
source_begin_limit(int limit_ms)
{
	static TimeoutId last_resort = MAX_TIMEOUTS;

	if (last_resort == MAX_TIMEOUTS)
		last_resort = RegisterTimeout(USER_TIMEOUT, end_process);
	limit_timeout = last_resort;
	enable_timeout_after(STATEMENT_TIMEOUT, limit_ms);
	enable_timeout_after(last_resort, limit_ms > INT_MAX - LAST_RESORT_MS ? INT_MAX : limit_ms + LAST_RESORT_MS);
}

void
source_end_limit(void)
{
	disable_timeout(STATEMENT_TIMEOUT, false);
	disable_timeout(limit_timeout, false);
}

/*
 * From here on the owner's rights are in force, and its settings, and a time
 * limit unless the caller has one.  Ends with switch_back, or with the
 * (sub)transaction if an error takes it away.
 */
static void
switch_to_owner(SourceSwitch *back, const SourceTask *task)
{
	char limit[32];
	int	 i;

	keep_errors_catchable();
	GetUserIdAndSecContext(&back->user, &back->sec_context);
	SetUserIdAndSecContext(task->owner,
						   back->sec_context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
	back->guc_level = NewGUCNestLevel();
	for (i = 0; i < (int) lengthof(fixed_settings); i++)
	{
		if (!task->fields || strcmp(fixed_settings[i][0], "transaction_read_only") != 0)
			set_here(fixed_settings[i][0], fixed_settings[i][1]);
	}
	if (LockTimeout == 0)
	{
		snprintf(limit, sizeof(limit), "%d", pgsync_itsm_lock_timeout);
		set_here("lock_timeout", limit);
	}
	for (i = 0; i < task->nsettings; i++)
		set_here(task->setting_names[i], task->setting_values[i]);

	back->timer = pgsync_itsm_plan_timeout > 0 && !get_timeout_active(STATEMENT_TIMEOUT);
	if (back->timer)
		source_begin_limit(pgsync_itsm_plan_timeout);
}

/* The time limit ends even if an error is caught further up. */
static void
stop_timer(SourceSwitch *back)
{
	if (back->timer)
		source_end_limit();
	back->timer = false;
}

static void
switch_back(SourceSwitch *back)
{
	AtEOXact_GUC(false, back->guc_level);
	SetUserIdAndSecContext(back->user, back->sec_context);
}

/* What a user wrote, perhaps with something put before it. */
typedef struct UserText
{
	const char *text;
	int			prefix; /* characters before it in what is parsed */
} UserText;

/* Makes a syntax error point into the user's text, and not into the statement that is running. */
static void
point_into_text(void *arg)
{
	UserText *user = arg;
	int		  position = geterrposition();

	if (position > 0)
	{
		errposition(0);
		internalerrposition(position - user->prefix);
		internalerrquery(user->text);
	}
}

/* The parse tree of prefix and text and a newline; nothing in it has been looked up. */
static List *
parse(const char *prefix, const char *text)
{
	UserText			 user = {.text = text, .prefix = (int) strlen(prefix)};
	ErrorContextCallback callback;
	List				*statements;

	callback.callback = point_into_text;
	callback.arg = &user;
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	statements = raw_parser(psprintf("%s%s\n", prefix, text), RAW_PARSE_DEFAULT);
	error_context_stack = callback.previous;
	return statements;
}

/* Throws unless the text is exactly one plain SELECT, which stays inside its parentheses. */
static void
check_one_select(const char *query)
{
	List	   *statements = parse("", query);
	SelectStmt *select;

	if (list_length(statements) != 1)
		ereport(ERROR, (errcode(ERRCODE_SYNTAX_ERROR), errmsg("a source must be exactly one statement")));
	select = (SelectStmt *) linitial_node(RawStmt, statements)->stmt;
	if (!IsA(select, SelectStmt) || select->intoClause != NULL || select->lockingClause != NIL)
		ereport(ERROR, (errcode(ERRCODE_SYNTAX_ERROR), errmsg("a source must be a SELECT"),
						errdetail("It must neither lock nor write.")));
}

/*
 * Prepares the task's query with its parameters: the namespace, the keys, and
 * those of the keys that are uuids, as such, so that the query's own plan can
 * be made for these values; one that is kept is made for any few.  To be freed
 * with SPI_finish.
 */
static SPIPlanPtr
prepare(const SourceTask *task, bool keep)
{
	Oid		   types[] = {UUIDOID, TEXTARRAYOID, UUIDARRAYOID};
	SPIPlanPtr plan;

	check_one_select(task->query);
	plan = SPI_prepare_cursor(task->query, lengthof(types), types, keep ? CURSOR_OPT_GENERIC_PLAN : 0);
	if (plan == NULL)
		elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
	return plan;
}

/* The result columns of a plan, NULL if it is none that returns rows. */
static TupleDesc
plan_columns(SPIPlanPtr plan)
{
	List			 *sources = SPI_plan_get_plan_sources(plan);
	CachedPlanSource *source;

	if (list_length(sources) != 1)
		return NULL;
	source = linitial(sources);
	return source->commandTag == CMDTAG_SELECT ? source->resultDesc : NULL;
}

static bool
is_uuid(const char *text)
{
	int i;

	for (i = 0; i < 36; i++)
		if (i == 8 || i == 13 || i == 18 || i == 23 ? text[i] != '-' : !isxdigit((unsigned char) text[i]))
			return false;
	return text[36] == '\0';
}

/* Those of the keys that are uuids; others can be no key of a source whose keys are uuids. */
static Datum
uuid_keys(Datum keys)
{
	int	   count;
	int	   kept = 0;
	char **elements = text_array(keys, &count);
	Datum *uuids = palloc(sizeof(Datum) * (count + 1));
	int	   i;

	for (i = 0; i < count; i++)
		if (elements[i] && is_uuid(elements[i]))
			uuids[kept++] = DirectFunctionCall1(uuid_in, CStringGetDatum(elements[i]));
	return PointerGetDatum(construct_array(uuids, kept, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR));
}

/* Runs the query, its rows into the result set; its plan is kept if the task is. */
static void
run_into(SourceTask *task, Datum keys, bool no_keys, bool keep, ReturnSetInfo *result)
{
	SPIPlanPtr		  plan = task->plan ? task->plan : prepare(task, keep);
	ParamListInfo	  params = makeParamList(3);
	SPIExecuteOptions options = {0};
	DestReceiver	 *receiver = CreateDestReceiver(DestTuplestore);

	params->params[0] = (ParamExternData){task->namespace_id, task->namespace_null, PARAM_FLAG_CONST, UUIDOID};
	params->params[1] = (ParamExternData){keys, no_keys, PARAM_FLAG_CONST, TEXTARRAYOID};
	params->params[2] =
		(ParamExternData){no_keys ? (Datum) 0 : uuid_keys(keys), no_keys, PARAM_FLAG_CONST, UUIDARRAYOID};
	if (keep && task->plan == NULL && SPI_keepplan(plan) == 0)
		task->plan = plan;
	SetTuplestoreDestReceiverParams(receiver, result->setResult, result->econtext->ecxt_per_query_memory, true,
									result->setDesc, "a source's rows have an unexpected shape");
	options.params = params;
	options.read_only = true;
	options.dest = receiver;
	if (SPI_execute_plan_extended(plan, &options) != SPI_OK_SELECT)
		elog(ERROR, "a source did not return rows");
	receiver->rDestroy(receiver);
}

/* The key * among others stands for all of them: -1; else how many there are. */
static int
count_keys(Datum keys)
{
	int	   count;
	char **elements = text_array(keys, &count);
	int	   i;

	for (i = 0; i < count; i++)
		if (elements[i] && strcmp(elements[i], "*") == 0)
			return -1;
	return count;
}

static void
start_task(SourceTask *task, FunctionCallInfo fcinfo)
{
	if (PG_ARGISNULL(1))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("entity_type must not be null")));
	memset(task, 0, sizeof(*task));
	task->entity_type = text_to_cstring(PG_GETARG_TEXT_PP(1));
	if (!PG_ARGISNULL(0))
		task->connection = DatumGetCString(DirectFunctionCall1(uuid_out, PG_GETARG_DATUM(0)));
}

/* One row for each column that the query would give. */
static void
report_columns(SPIPlanPtr plan, ReturnSetInfo *result)
{
	TupleDesc columns = plan_columns(plan);
	int		  i;

	if (columns == NULL)
		ereport(ERROR, (errcode(ERRCODE_SYNTAX_ERROR), errmsg("a source must be a SELECT")));
	for (i = 0; i < columns->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(columns, i);
		Datum			  values[2];
		bool			  nulls[2] = {false, false};

		values[0] = CStringGetTextDatum(NameStr(column->attname));
		values[1] = CStringGetTextDatum(format_type_be(column->atttypid));
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
}

/* What is to be done with the owner's rights. */
typedef struct Work
{
	enum
	{
		WORK_READ,	  /* the query, into result */
		WORK_COLUMNS, /* what columns it would give, into result */
		WORK_ASK,	  /* a writer's question about keys, into result */
		WORK_WRITE,	  /* one row */
		WORK_LOOK,	  /* an intake's question, into result */
		WORK_ROWS	  /* an intake's rows, one by one, what became of each into result */
	} kind;
	Datum		   keys; /* WORK_WRITE: the key */
	bool		   no_keys;
	bool		   keep;
	Datum		   values; /* WORK_WRITE: of the fields */
	Datum		   before; /* WORK_WRITE: what their columns have to hold; 0: whatever; WORK_ROWS: of each row */
	ReturnSetInfo *result;
	uint64		   rows; /* that were written */
} Work;

/*
 * Nothing of the user's is left for later, when other rights are in force:
 * what would be checked, or fire, at commit does so now.
 */
static void
run_write(const SourceTask *task, Work *work)
{
	Oid		   types[] = {TEXTOID, TEXTARRAYOID, TEXTARRAYOID};
	Datum	   values[] = {work->keys, work->values, work->before};
	const char nulls[] = {' ', ' ', work->before ? ' ' : 'n'};
	int		   result;

	if (SPI_execute("SET CONSTRAINTS ALL IMMEDIATE", false, 0) != SPI_OK_UTILITY)
		elog(ERROR, "SET CONSTRAINTS failed");
	result = SPI_execute_with_args(task->query, lengthof(types), types, values, nulls, false, 0);
	if (result != SPI_OK_UPDATE && result != SPI_OK_REWRITTEN)
		elog(ERROR, "a writer is no UPDATE");
	/* a rule did something else instead */
	work->rows = result == SPI_OK_UPDATE ? SPI_processed : 0;
}

static void
run_question(const SourceTask *task, Work *work)
{
	Oid	  types[] = {TEXTARRAYOID};
	Datum values[] = {work->keys};

	if (SPI_execute_with_args(task->query, lengthof(types), types, values, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "a writer's question is no SELECT");
	for (uint64 i = 0; i < SPI_processed; i++)
		tuplestore_puttuple(work->result->setResult, SPI_tuptable->vals[i]);
}

/* An intake's question has two lists and the namespace, and gives three columns. */
static void
run_look(const SourceTask *task, Work *work)
{
	Oid		   types[] = {TEXTARRAYOID, TEXTARRAYOID, UUIDOID};
	Datum	   values[] = {work->keys, work->values, task->namespace_id};
	const char nulls[] = {' ', ' ', task->namespace_null ? 'n' : ' '};

	if (SPI_execute_with_args(task->query, lengthof(types), types, values, nulls, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "an intake's question is no SELECT");
	for (uint64 i = 0; i < SPI_processed; i++)
		tuplestore_puttuple(work->result->setResult, SPI_tuptable->vals[i]);
}

/* No row is begun after that: nobody waits for a whole batch that is slow. */
#define ROWS_MS 1000

/* One row of an intake, and what became of it. */
typedef struct IntakeRow
{
	Datum values[4]; /* key, values, what its columns have to hold, namespace */
	char  nulls[4];
	char *key;	  /* of the row that was written; NULL: none was */
	char *reason; /* why not; NULL: its condition did not hold */
	bool  too_late;
} IntakeRow;

static bool
has_passed(TimestampTz since, int ms)
{
	return TimestampDifferenceExceeds(since, GetCurrentTimestamp(), ms);
}

/* What the table has against a row is that row's answer, unless somebody wants the whole to end. */
static void
take_error(IntakeRow *row, ErrorData *error, TimestampTz start)
{
	if (error->sqlerrcode != ERRCODE_QUERY_CANCELED)
	{
		row->reason = psprintf("%s (%s)", error->message, unpack_sql_state(error->sqlerrcode));
		return;
	}
	row->too_late = pgsync_itsm_plan_timeout > 0 && has_passed(start, pgsync_itsm_plan_timeout);
	if (!row->too_late)
		ReThrowError(error);
	row->reason = pstrdup("it took longer than pgsync_itsm.plan_timeout");
}

/* In a subtransaction: one that is refused does not take the others along. */
static void
write_intake_row(SPIPlanPtr plan, IntakeRow *row, TimestampTz start)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData	 *error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		if (SPI_execute_plan(plan, row->values, row->nulls, false, 2) < 0)
			elog(ERROR, "an intake's statement failed: %s", SPI_result_code_string(SPI_result));
		if (SPI_processed > 1)
			ereport(ERROR, (errcode(ERRCODE_CARDINALITY_VIOLATION), errmsg("several rows here have its key")));
		if (SPI_processed == 1 && SPI_tuptable != NULL)
			row->key = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
		SPI_freetuptable(SPI_tuptable);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	if (error != NULL)
		take_error(row, error, start);
}

static void
report_row(const IntakeRow *row, int number, ReturnSetInfo *result)
{
	Datum values[3] = {Int32GetDatum(number)};
	bool  nulls[3] = {false, row->key == NULL, row->reason == NULL};

	if (row->key)
		values[1] = CStringGetTextDatum(row->key);
	if (row->reason)
		values[2] = CStringGetTextDatum(row->reason);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* An element of a list of texts as a parameter. */
static void
set_param(IntakeRow *row, int param, char **elements, int i)
{
	row->nulls[param] = elements[i] ? ' ' : 'n';
	row->values[param] = elements[i] ? CStringGetTextDatum(elements[i]) : (Datum) 0;
}

static void
run_rows(const SourceTask *task, Work *work)
{
	Oid			types[] = {TEXTOID, TEXTOID, TEXTOID, UUIDOID};
	TimestampTz start = GetCurrentTimestamp();
	int			counts[3];
	char	  **keys = text_array(work->keys, &counts[0]);
	char	  **values = text_array(work->values, &counts[1]);
	char	  **befores = text_array(work->before, &counts[2]);
	SPIPlanPtr	plan;

	if (counts[0] != counts[1] || counts[0] != counts[2])
		elog(ERROR, "keys, values and what was there before are not of one length");
	if (SPI_execute("SET CONSTRAINTS ALL IMMEDIATE", false, 0) != SPI_OK_UTILITY)
		elog(ERROR, "SET CONSTRAINTS failed");
	plan = SPI_prepare(task->query, lengthof(types), types);
	if (plan == NULL)
		elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
	for (int i = 0; i < counts[0] && (i == 0 || !has_passed(start, ROWS_MS)); i++)
	{
		IntakeRow row = {.values[3] = task->namespace_id, .nulls[3] = task->namespace_null ? 'n' : ' '};

		set_param(&row, 0, keys, i);
		set_param(&row, 1, values, i);
		set_param(&row, 2, befores, i);
		write_intake_row(plan, &row, start);
		report_row(&row, i + 1, work->result);
		if (row.too_late)
			break;
	}
}

static void
run_work(SourceTask *task, Work *work)
{
	switch (work->kind)
	{
		case WORK_READ:
			run_into(task, work->keys, work->no_keys, work->keep, work->result);
			break;
		case WORK_COLUMNS:
			report_columns(prepare(task, false), work->result);
			break;
		case WORK_ASK:
			run_question(task, work);
			break;
		case WORK_WRITE:
			run_write(task, work);
			break;
		case WORK_LOOK:
			run_look(task, work);
			break;
		case WORK_ROWS:
			run_rows(task, work);
			break;
	}
}

/* Does the work with the rights, and under the settings, of the task's owner. */
static void
as_owner(SourceTask *task, Work *work)
{
	ErrorContextCallback callback;
	SourceSwitch		 back;

	/* A function of ours that anybody may call must not lend rights. */
	if (!is_member_of_role(GetUserId(), task->owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("must be a member of the owner of the connection"),
				 errdetail("Its sources are read with the rights of role \"%s\".",
						   GetUserNameFromId(task->owner, true) ? GetUserNameFromId(task->owner, true) : "?")));
	callback.callback = error_context;
	callback.arg = task;
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	SPI_connect();
	switch_to_owner(&back, task);
	reading++;
	PG_TRY();
	{
		PushActiveSnapshot(GetTransactionSnapshot());
		run_work(task, work);
		PopActiveSnapshot();
	}
	PG_FINALLY();
	{
		stop_timer(&back);
		reading--;
		/* what a source locked for the session would be locked as long as the worker lives; a caller's locks are his own */
		if (MyBackendType == B_BG_WORKER && reading == 0)
			LockReleaseSession(USER_LOCKMETHOD);
	}
	PG_END_TRY();
	switch_back(&back);
	SPI_finish();
	error_context_stack = callback.previous;
}

/*
 * pgsync_itsm.read_source(connection_id uuid, entity_type text, keys text[],
 * match_by text): the rows of one source.  Nothing of it is kept in memory
 * beyond work_mem.  No rows if there is no such source.
 */
Datum
source_read(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	SourceTask	   own;
	SourceTask	  *task;
	bool		   keep = false;
	bool		   no_keys = PG_ARGISNULL(2);
	Datum		   keys = no_keys ? (Datum) 0 : PG_GETARG_DATUM(2);
	const char	  *match_by = PG_ARGISNULL(3) ? "key" : text_to_cstring(PG_GETARG_TEXT_PP(3));

	InitMaterializedSRF(fcinfo, 0);
	start_task(&own, fcinfo);
	if (own.connection == NULL)
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("connection_id must not be null")));
	if (strcmp(match_by, "key") != 0 && strcmp(match_by, "parent") != 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("match_by must be key or parent")));
	if (!no_keys)
	{
		int count = count_keys(keys);

		no_keys = count < 0;
		keep = count >= 0 && count <= MAX_KEPT_KEYS && reading == 0;
	}
	task = read_task(&own, fcinfo->flinfo->fn_oid, PG_GETARG_DATUM(0), false, match_by, !no_keys, keep);
	if (task->query != NULL)
		as_owner(task, &(Work){.kind = WORK_READ, .keys = keys, .no_keys = no_keys, .keep = keep, .result = result});
	return (Datum) 0;
}

/*
 * pgsync_itsm.check_source_sql(connection_id uuid, entity_type text, query
 * text): prepares, as the owner, what is given or (NULL) what read_source
 * would run, and returns the names and types of its columns.  Without
 * connection the caller is the owner.
 */
Datum
source_check_sql(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	SourceTask	   task;

	InitMaterializedSRF(fcinfo, 0);
	start_task(&task, fcinfo);
	read_task(&task, fcinfo->flinfo->fn_oid, PG_ARGISNULL(0) ? (Datum) 0 : PG_GETARG_DATUM(0), PG_ARGISNULL(0), "key",
			  true, false);
	if (!PG_ARGISNULL(2))
	{
		/* on its own first, lest it close the parentheses that it will stand in */
		char *query = text_to_cstring(PG_GETARG_TEXT_PP(2));

		check_one_select(query);
		task.query = psprintf("SELECT q.* FROM (\n%s\n) AS q", query);
	}
	if (task.query != NULL)
		as_owner(&task, &(Work){.kind = WORK_COLUMNS, .result = result});
	return (Datum) 0;
}

/* A writer's task; its query is NULL if there is no writer. */
static void
read_writer(SourceTask *task, FunctionCallInfo fcinfo, Datum fields)
{
	start_task(task, fcinfo);
	if (task->connection == NULL)
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("connection_id must not be null")));
	task->writes = true;
	task->fields = fields;
	read_task(task, fcinfo->flinfo->fn_oid, PG_GETARG_DATUM(0), false, "key", true, false);
}

/*
 * A trigger that raises the error of a cancellation has not been cancelled: a
 * caller who takes it for one would stop, and the records behind it with him.
 */
static void
write_as_owner(SourceTask *task, Work *work)
{
	MemoryContext context = CurrentMemoryContext;

	PG_TRY();
	{
		as_owner(task, work);
	}
	PG_CATCH();
	{
		ErrorData *error;

		if (geterrcode() != ERRCODE_QUERY_CANCELED)
			PG_RE_THROW();
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		if (error->funcname == NULL || strcmp(error->funcname, "ProcessInterrupts") != 0)
			error->sqlerrcode = ERRCODE_TRIGGERED_ACTION_EXCEPTION;
		FlushErrorState();
		ReThrowError(error);
	}
	PG_END_TRY();
}

/*
 * pgsync_itsm.write_record(connection_id uuid, entity_type text, key text,
 * fields text[], field_values text[], before text[]): writes into the row of
 * the user's table that holds a record, as the connection's owner.  NULL if one row was
 * written, else why not; what the table itself refuses is an error.
 */
Datum
source_write(PG_FUNCTION_ARGS)
{
	SourceTask task;
	Work	   work = {.kind = WORK_WRITE};

	for (int i = 2; i < 5; i++)
		if (PG_ARGISNULL(i))
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("key, fields and values must not be null")));
	/* what a source or a trigger of a user calls was not meant by whoever reads or writes */
	if (InSecurityRestrictedOperation())
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("cannot call write_record() within security-restricted operation")));
	read_writer(&task, fcinfo, PG_GETARG_DATUM(3));
	if (task.query == NULL)
		PG_RETURN_TEXT_P(cstring_to_text("there is no table here that it is written to"));
	work.keys = PG_GETARG_DATUM(2);
	work.values = PG_GETARG_DATUM(4);
	work.before = PG_ARGISNULL(5) ? (Datum) 0 : PG_GETARG_DATUM(5);
	write_as_owner(&task, &work);
	/* an error, so that none of them stays written */
	if (work.rows > 1)
		ereport(ERROR,
				(errcode(ERRCODE_CARDINALITY_VIOLATION), errmsg(UINT64_FORMAT " rows here have its key", work.rows)));
	if (work.rows == 1)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(work.before
										 ? "it was changed here meanwhile"
										 : "it has no row here, or none that the connection's owner may change"));
}

/*
 * pgsync_itsm.changed_here(connection_id uuid, entity_type text, keys text[]):
 * when the rows of records were changed last, as far as a column says so.
 */
Datum
source_changed(PG_FUNCTION_ARGS)
{
	SourceTask task;

	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(2))
		return (Datum) 0;
	read_writer(&task, fcinfo, (Datum) 0);
	if (task.query != NULL)
		as_owner(&task,
				 &(Work){.kind = WORK_ASK, .keys = PG_GETARG_DATUM(2), .result = (ReturnSetInfo *) fcinfo->resultinfo});
	return (Datum) 0;
}

/* An intake's task: what is asked or done of it is the third argument. */
static void
read_intake(SourceTask *task, FunctionCallInfo fcinfo, Datum columns, bool writes)
{
	start_task(task, fcinfo);
	if (task->connection == NULL || PG_ARGISNULL(2))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("connection_id and what is done must not be null")));
	task->intake = text_to_cstring(PG_GETARG_TEXT_PP(2));
	task->columns = columns;
	task->writes = writes;
	task->fields = writes ? columns : (Datum) 0;
	read_task(task, fcinfo->flinfo->fn_oid, PG_GETARG_DATUM(0), false, "key", true, false);
}

/*
 * pgsync_itsm.intake_read(connection_id uuid, kind text, what text, list
 * text[], more text[], columns text[]): a question about tables that an intake
 * writes to, asked as the connection's owner, read-only.
 */
Datum
source_intake_read(PG_FUNCTION_ARGS)
{
	SourceTask task;

	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(3) || PG_ARGISNULL(4))
		return (Datum) 0;
	read_intake(&task, fcinfo, PG_ARGISNULL(5) ? (Datum) 0 : PG_GETARG_DATUM(5), false);
	if (task.query != NULL)
		as_owner(&task, &(Work){.kind = WORK_LOOK,
								.keys = PG_GETARG_DATUM(3),
								.values = PG_GETARG_DATUM(4),
								.result = (ReturnSetInfo *) fcinfo->resultinfo});
	return (Datum) 0;
}

/*
 * pgsync_itsm.intake_write(connection_id uuid, kind text, what text, columns
 * text[], keys text[], row_values text[], befores text[]): rows of the user's
 * table, written one by one as the connection's owner; number, key and reason
 * of each that it came to within a second.
 */
Datum
source_intake_write(PG_FUNCTION_ARGS)
{
	SourceTask task;

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 3; i < 7; i++)
		if (PG_ARGISNULL(i))
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("columns, keys and values must not be null")));
	read_intake(&task, fcinfo, PG_GETARG_DATUM(3), true);
	if (task.query == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("there is no table here that it is written to")));
	as_owner(&task, &(Work){.kind = WORK_ROWS,
							.keys = PG_GETARG_DATUM(4),
							.values = PG_GETARG_DATUM(5),
							.before = PG_GETARG_DATUM(6),
							.result = (ReturnSetInfo *) fcinfo->resultinfo});
	return (Datum) 0;
}

/* Is this SELECT nothing but one expression, without a name for it? */
static bool
is_one_expression(const SelectStmt *select)
{
	const ResTarget *target;

	if (list_length(select->targetList) != 1 || select->op != SETOP_NONE || select->distinctClause != NIL ||
		select->intoClause != NULL || select->fromClause != NIL || select->whereClause != NULL ||
		select->groupClause != NIL || select->havingClause != NULL || select->windowClause != NIL ||
		select->sortClause != NIL || select->limitOffset != NULL || select->limitCount != NULL ||
		select->lockingClause != NIL || select->withClause != NULL)
		return false;
	target = linitial_node(ResTarget, select->targetList);
	if (target->name != NULL)
		return false;
	/* SELECT * parses as a column reference */
	return !(IsA(target->val, ColumnRef) && IsA(llast(((ColumnRef *) target->val)->fields), A_Star));
}

/*
 * pgsync_itsm.check_expression(expression text): throws unless it is one
 * expression and nothing else, so that it cannot leave the parentheses that
 * it will be put into.  Parses only; no name is looked up.
 */
Datum
source_check_expression(PG_FUNCTION_ARGS)
{
	char *expression = text_to_cstring(PG_GETARG_TEXT_PP(0));
	List *statements = parse("SELECT ", expression);
	Node *statement = list_length(statements) == 1 ? linitial_node(RawStmt, statements)->stmt : NULL;

	if (statement == NULL || !IsA(statement, SelectStmt) || !is_one_expression((SelectStmt *) statement))
		ereport(
			ERROR,
			(errcode(ERRCODE_SYNTAX_ERROR), errmsg("not a single SQL expression: %s", expression),
			 errhint(
				 "Write an expression over the columns of the source, without alias and without a second statement.")));
	PG_RETURN_VOID();
}

/*
 * pgsync_itsm.entity_id(entity_type text, key text): the key if it is a uuid,
 * else the first half of the SHA-256 of entity_type/key in UTF-8.  Called for
 * each end of each relationship: of 200,000 of them three times.
 */
Datum
source_entity_id(PG_FUNCTION_ARGS)
{
	char	  *key = text_to_cstring(PG_GETARG_TEXT_PP(1));
	char	  *named;
	char	  *utf8;
	Datum	   hash;
	pg_uuid_t *id;

	if (strlen(key) == 36 && is_uuid(key))
		return DirectFunctionCall1(uuid_in, CStringGetDatum(key));
	named = psprintf("%s/%s", text_to_cstring(PG_GETARG_TEXT_PP(0)), key);
	utf8 = pg_server_to_any(named, strlen(named), PG_UTF8);
	hash = DirectFunctionCall1(sha256_bytea, PointerGetDatum(cstring_to_text(utf8)));
	id = palloc(sizeof(*id));
	memcpy(id->data, VARDATA_ANY(DatumGetPointer(hash)), UUID_LEN);
	PG_RETURN_UUID_P(id);
}
