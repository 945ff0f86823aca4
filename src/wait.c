/*
 * wait.c
 *	  CALL itsm_wait(run): looks at a run until it ends, and says how it goes.
 *
 * In C because a procedure in plpgsql cannot sleep without a snapshot, and a
 * snapshot held for the hours a first publish may take would hold back vacuum.
 * Between two looks there is no transaction, so the wait costs the database
 * nothing; it reads through pgsync_itsm.wait_poll() and wait_report() only.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"

#include "compat.h"

#define POLL_MS 100

typedef struct WaitState
{
	int64		  run_id;
	char		 *said; /* last progress line, in TopTransaction-proof memory */
	MemoryContext memory;
	bool		  ended;
} WaitState;

PG_FUNCTION_INFO_V1(pgsync_itsm_wait);

/* A column of the first row, palloc'd, or NULL. */
static char *
first_text(int column)
{
	if (SPI_processed == 0)
		return NULL;
	return SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column);
}

static void
run_query(const char *query, int64 run_id)
{
	Oid	  types[1] = {INT8OID};
	Datum values[1] = {Int64GetDatum(run_id)};

	if (SPI_execute_with_args(query, 1, types, values, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not look at run " INT64_FORMAT, run_id);
}

static void
say_progress(WaitState *state, const char *line)
{
	if (line == NULL || (state->said != NULL && strcmp(line, state->said) == 0))
		return;
	if (state->said != NULL)
		pfree(state->said);
	state->said = MemoryContextStrdup(state->memory, line);
	ereport(NOTICE, (errmsg_internal("%s", line)));
}

/* One look: progress, the end, or what keeps the run from going on. */
static void
look(WaitState *state)
{
	char *status;
	char *problem;
	char *hint;

	run_query("SELECT status, line, problem, problem_hint FROM pgsync_itsm.wait_poll($1)", state->run_id);
	status = first_text(1);
	problem = first_text(3);
	hint = first_text(4);
	say_progress(state, first_text(2));
	state->ended = status == NULL ||
				   (strcmp(status, "queued") != 0 && strcmp(status, "planning") != 0 && strcmp(status, "running") != 0);
	if (!state->ended && problem != NULL)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg_internal("%s", problem),
						hint ? errhint("%s", hint) : 0));
}

static void
report(WaitState *state)
{
	run_query("SELECT * FROM pgsync_itsm.wait_report($1)", state->run_id);
	for (uint64 i = 0; i < SPI_processed; i++)
		ereport(NOTICE, (errmsg_internal("%s", SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1))));
}

static void
fail_unless_through(WaitState *state)
{
	char *through;

	run_query("SELECT pgsync_itsm.went_through($1)::pg_catalog.text", state->run_id);
	through = first_text(1);
	if (through == NULL || strcmp(through, "true") != 0)
		ereport(ERROR, (errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
						errmsg("run " INT64_FORMAT " did not go through", state->run_id),
						errhint("SELECT * FROM integration_sync_log_errors;")));
}

/* Sleeps with neither transaction nor snapshot; a cancel or a shutdown ends it. */
static void
pause_a_moment(void)
{
	static uint32 wait_event = 0;

	if (wait_event == 0)
		wait_event = compat_wait_event("PgsyncItsmWait");
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, POLL_MS, wait_event);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

static void
refuse_transaction_block(FunctionCallInfo fcinfo, int64 run_id)
{
	CallContext *call = (CallContext *) fcinfo->context;

	if (call == NULL || !IsA(call, CallContext) || call->atomic)
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION), errmsg("itsm_wait() cannot run inside a transaction block"),
				 errdetail("The worker sees a run only after the transaction that queued it has committed."),
				 errhint("COMMIT; CALL itsm_wait(" INT64_FORMAT ");", run_id)));
}

/*
 * itsm_wait(run_id bigint, error_on_failure boolean)
 *
 * Returns when the run has ended or needs approval.  Throws for a run that is
 * not there, in a transaction block, and when nothing can make the run go on.
 */
Datum
pgsync_itsm_wait(PG_FUNCTION_ARGS)
{
	WaitState state = {0};
	bool	  strict = !PG_ARGISNULL(1) && PG_GETARG_BOOL(1);

	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("run_id must not be null")));
	state.run_id = PG_GETARG_INT64(0);
	refuse_transaction_block(fcinfo, state.run_id);
	if (SPI_connect_ext(SPI_OPT_NONATOMIC) != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect_ext failed");
	state.memory = CurrentMemoryContext;
	for (;;)
	{
		look(&state);
		if (state.ended)
			break;
		SPI_freetuptable(SPI_tuptable);
		SPI_commit();
		pause_a_moment();
	}
	report(&state);
	if (strict)
		fail_unless_through(&state);
	SPI_finish();
	PG_RETURN_VOID();
}
