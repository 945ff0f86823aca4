/*
 * gate.c
 *	  Who sees what, and writing on behalf of those who may not write.
 *
 * No role but the extension's owner has a right to change its tables: a row of
 * a run that a tenant could write as he likes would reach another tenant's
 * platform, or stop the worker.  What the functions of the API write goes
 * through gates instead.  A gate is a C function; it looks, with the rights of
 * the caller and so under row-level security, whether the thing that it is
 * about may be seen (or is the caller's), and only then calls
 * pgsync_itsm.<its own name>_granted with the rights of its owner, with the
 * same arguments and the caller's name behind them.
 *
 * SECURITY DEFINER would not do: in such a function the site's condition would
 * be asked about the owner, who sees everything.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#define MAX_ARGS 12

PG_FUNCTION_INFO_V1(visible_namespaces);
PG_FUNCTION_INFO_V1(gate_run);
PG_FUNCTION_INFO_V1(gate_match);
PG_FUNCTION_INFO_V1(gate_conflict);
PG_FUNCTION_INFO_V1(gate_namespace);
PG_FUNCTION_INFO_V1(gate_seen_connection);
PG_FUNCTION_INFO_V1(gate_own_connection);

/* ------------------------------------------------------------ who sees what */

/*
 * The site's condition and, unless there are candidates, the namespaces that
 * are known, read as the extension's owner: neither is for everybody.
 */
static char *
read_condition(Oid owner, bool known, Datum *candidates)
{
	MemoryContext caller = CurrentMemoryContext;
	char		 *condition = NULL;
	Oid			  user;
	int			  context;
	bool		  isnull;

	GetUserIdAndSecContext(&user, &context);
	SetUserIdAndSecContext(owner, context | SECURITY_LOCAL_USERID_CHANGE);
	SPI_connect();
	if (SPI_execute(known ? "SELECT pgsync_itsm.site_condition(), ARRAY(SELECT pgsync_itsm.known_namespaces())"
						  : "SELECT pgsync_itsm.site_condition()",
					true, 1) != SPI_OK_SELECT ||
		SPI_processed != 1)
		elog(ERROR, "the visibility condition cannot be read");
	MemoryContextSwitchTo(caller);
	if ((condition = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1)) != NULL)
		condition = MemoryContextStrdup(caller, condition);
	if (known)
		*candidates =
			SPI_datumTransfer(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull), false, -1);
	SPI_finish();
	SetUserIdAndSecContext(user, context);
	return condition;
}

static Oid
owner_of(Oid function)
{
	HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Oid		  owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for function %u", function);
	owner = ((Form_pg_proc) GETSTRUCT(tuple))->proowner;
	ReleaseSysCache(tuple);
	return owner;
}

/*
 * pgsync_itsm.visible_namespaces(candidates uuid[]) returns setof uuid: those
 * for which the site's condition holds, which is evaluated with the rights and
 * the settings of the caller, once for each.  NULL: of all that are known.
 */
Datum
visible_namespaces(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	bool		   known = PG_ARGISNULL(0);
	Datum		   candidates = known ? (Datum) 0 : PG_GETARG_DATUM(0);
	Oid			   types[] = {UUIDARRAYOID};
	char		  *condition;
	bool		   isnull;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	condition = read_condition(owner_of(fcinfo->flinfo->fn_oid), known, &candidates);
	if (condition == NULL)
		return (Datum) 0;
	SPI_connect();
	if (SPI_execute_with_args(
			psprintf("SELECT k.namespace_id FROM pg_catalog.unnest($1) AS k(namespace_id) WHERE (%s\n)", condition), 1,
			types, &candidates, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "the visibility condition cannot be evaluated");
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		Datum value = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull);

		tuplestore_putvalues(result->setResult, result->setDesc, &value, &isnull);
	}
	SPI_finish();
	return (Datum) 0;
}

/* ------------------------------------------------------------ gates */

typedef struct Gate
{
	char *name;
	Oid	  owner;
	Oid	  result;
	int	  nargs;
	Oid	  types[MAX_ARGS + 1]; /* one more: the caller */
	Datum values[MAX_ARGS + 1];
	char  nulls[MAX_ARGS + 1];
} Gate;

static void
read_gate(Gate *gate, FunctionCallInfo fcinfo)
{
	HeapTuple	 tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(fcinfo->flinfo->fn_oid));
	Form_pg_proc proc;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for function %u", fcinfo->flinfo->fn_oid);
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	gate->name = pstrdup(NameStr(proc->proname));
	gate->owner = proc->proowner;
	gate->result = proc->prorettype;
	gate->nargs = proc->pronargs;
	if (gate->nargs < 1 || gate->nargs > MAX_ARGS)
		elog(ERROR, "a gate with %d arguments", gate->nargs);
	for (int i = 0; i < gate->nargs; i++)
	{
		gate->types[i] = proc->proargtypes.values[i];
		gate->values[i] = fcinfo->args[i].value;
		gate->nulls[i] = fcinfo->args[i].isnull ? 'n' : ' ';
	}
	ReleaseSysCache(tuple);
}

/* The check raises the error that says what is wrong, the same whether a thing is not there or not the caller's. */
static void
check_as_caller(const char *check, Gate *gate)
{
	SPI_connect();
	if (SPI_execute_with_args(check, 1, gate->types, gate->values, gate->nulls, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "\"%s\" cannot be called", check);
	SPI_finish();
}

static char *
statement_of(const Gate *gate)
{
	StringInfoData text;

	initStringInfo(&text);
	appendStringInfo(&text, "SELECT pgsync_itsm.%s(", quote_identifier(psprintf("%s_granted", gate->name)));
	for (int i = 1; i <= gate->nargs + 1; i++)
		appendStringInfo(&text, i == 1 ? "$%d" : ", $%d", i);
	appendStringInfoChar(&text, ')');
	return text.data;
}

/* On ERROR the end of the (sub)transaction restores the user. */
static Datum
call_as_owner(Gate *gate, bool *isnull)
{
	char *statement = statement_of(gate);
	Name  caller = palloc0(sizeof(NameData));
	Datum result;
	Oid	  user;
	int	  context;
	int16 len;
	bool  by_value;

	GetUserIdAndSecContext(&user, &context);
	namestrcpy(caller, GetUserNameFromId(user, false));
	gate->types[gate->nargs] = NAMEOID;
	gate->values[gate->nargs] = NameGetDatum(caller);
	gate->nulls[gate->nargs] = ' ';

	SetUserIdAndSecContext(gate->owner, context | SECURITY_LOCAL_USERID_CHANGE);
	SPI_connect();
	if (SPI_execute_with_args(statement, gate->nargs + 1, gate->types, gate->values, gate->nulls, false, 0) !=
			SPI_OK_SELECT ||
		SPI_processed != 1)
		elog(ERROR, "\"%s\" gave no result", statement);
	result = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, isnull);
	if (!*isnull)
	{
		get_typlenbyval(gate->result, &len, &by_value);
		result = SPI_datumTransfer(result, by_value, len);
	}
	SPI_finish();
	SetUserIdAndSecContext(user, context);
	return result;
}

static Datum
pass(FunctionCallInfo fcinfo, const char *check)
{
	Gate  gate;
	bool  isnull;
	Datum result;

	read_gate(&gate, fcinfo);
	/* what a source, an index or a materialized view calls was not meant by whoever reads it */
	if (InSecurityRestrictedOperation())
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("cannot call %s() within security-restricted operation", gate.name)));
	check_as_caller(check, &gate);
	result = call_as_owner(&gate, &isnull);
	if (isnull)
		PG_RETURN_NULL();
	return result;
}

Datum
gate_run(PG_FUNCTION_ARGS)
{
	return pass(fcinfo, "SELECT FROM pgsync_itsm.own_run($1)");
}

Datum
gate_match(PG_FUNCTION_ARGS)
{
	return pass(fcinfo, "SELECT FROM pgsync_itsm.seen_match($1)");
}

Datum
gate_conflict(PG_FUNCTION_ARGS)
{
	return pass(fcinfo, "SELECT FROM pgsync_itsm.seen_conflict($1)");
}

Datum
gate_namespace(PG_FUNCTION_ARGS)
{
	return pass(fcinfo, "SELECT pgsync_itsm.check_sees_namespace($1)");
}

Datum
gate_seen_connection(PG_FUNCTION_ARGS)
{
	return pass(fcinfo, "SELECT FROM pgsync_itsm.seen_connection($1)");
}

/* NULL: all of them, which is for superusers */
Datum
gate_own_connection(PG_FUNCTION_ARGS)
{
	return pass(fcinfo, "SELECT FROM pgsync_itsm.check_may_change($1)");
}
