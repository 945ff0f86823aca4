/*
 * planner.c
 *	  The planner process: SQL phases of a plan, one transaction each.
 *
 * Started by the worker when a plan is too long for it, ends when no plan
 * waits.  There may be two of them.  A plan begins with the fast one.  When
 * that is at one run for longer than pgsync_itsm.planner_slice while others
 * wait, it becomes the slow one, and another process is the fast one; if there
 * is a slow one already, it is interrupted, and leaves its run to that.  So
 * nobody waits for a source that takes long but those whose own do, too.
 * What it did stands in the tables: whoever comes after it, or the worker
 * after a crash, goes on from there.  SIGINT cancels the step (of a run that
 * was cancelled, or leaves it to the other planner), SIGTERM ends the process.
 *
 * Must not: talk to a platform, plan two runs at a time, or one that another
 * process is at.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#include "postgres.h"

#include <signal.h>

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "launcher.h"
#include "pgsync_itsm.h"
#include "planner.h"
#include "queue.h"
#include "source.h"

/* Asked for but not possible now: no worker slot, or the last one failed. */
#define START_AGAIN_MS 5000

/* It has a process, but no place: it begins just now, or has just ended. */
#define LOOK_AGAIN_MS 100

/* A row that is held: how often it is tried again, and when. */
#define BUSY_TIMES 4
#define BUSY_MS 20

/* How a worker is called, before the name of its database. */
#define WORKER_NAME "pgsync_itsm worker "

/* The worker's: its planners, if it started any. */
static BackgroundWorkerHandle *planner_handles[PLANNER_LANES];

/* ----------------------------------------------------------------
 * For worker and planner
 * ----------------------------------------------------------------
 */

static void
pin(const char *name, const char *value)
{
	SetConfigOption(name, value, PGC_SUSET, PGC_S_OVERRIDE);
}

/*
 * Statements here are many and short: compiling them costs more than it saves.
 * A claim must survive a crash, or what it claims is sent again unnoticed:
 * so commits wait for the disk here at the least.
 */
void
planner_pin_settings(void)
{
	pin("search_path", "pg_catalog, pg_temp");
	pin("default_transaction_read_only", "off");
	pin("default_transaction_deferrable", "off");
	pin("default_transaction_isolation", "read committed");
	pin("session_replication_role", "origin");
	pin("row_security", "on");
	pin("exit_on_error", "off");
	pin("statement_timeout", "0");
	pin("idle_in_transaction_session_timeout", "0");
	if (synchronous_commit == SYNCHRONOUS_COMMIT_OFF)
		pin("synchronous_commit", "local");
	/* Small statements, run often: compiling one costs more than it ever saves. */
	pin("jit", "off");
}

/* Ends the failed transaction; the error, copied, is the caller's to free. */
static ErrorData *
take_error(MemoryContext context, bool told)
{
	ErrorData *error;

	MemoryContextSwitchTo(context);
	HOLD_INTERRUPTS();
	if (told)
		EmitErrorReport();
	error = CopyErrorData();
	FlushErrorState();
	queue_abort();
	MemoryContextSwitchTo(context);
	RESUME_INTERRUPTS();
	return error;
}

/* False: somebody holds its row, and it is tried again. */
static bool
fail_run(int64 run_id, const ErrorData *error)
{
	bool failed;

	launcher_report_error(error->sqlerrcode, error->message);
	if (!queue_begin("pgsync_itsm: failing a run"))
		return true;
	failed = queue_fail_run(run_id, unpack_sql_state(error->sqlerrcode), error->message, error->hint);
	queue_commit();
	return failed;
}

static bool
move_run(int64 run_id, bool slow)
{
	if (!queue_begin("pgsync_itsm: leaving a run to another planner"))
		return false;
	queue_move_plan(run_id, slow);
	queue_commit();
	return true;
}

static void
begin_limit(int limit_ms)
{
	if (limit_ms > 0)
		source_begin_limit(limit_ms);
}

/* What came too late to cancel the step must not cancel the next one. */
static void
end_limit(int limit_ms)
{
	if (limit_ms > 0)
	{
		source_end_limit();
		QueryCancelPending = false;
	}
}

bool
planner_step(int64 run_id, int limit_ms, QueuePlan *outcome)
{
	MemoryContext context = CurrentMemoryContext;
	volatile bool here = false;
	volatile bool moves = false;
	ErrorData *volatile error = NULL;
	char text[64];

	snprintf(text, sizeof(text), "pgsync_itsm: planning run " INT64_FORMAT, run_id);
	*outcome = QUEUE_PLAN_DONE;
	PG_TRY();
	{
		here = queue_begin(text);
		if (here)
		{
			begin_limit(limit_ms);
			*outcome = queue_plan_step(run_id, limit_ms > 0);
			end_limit(limit_ms);
			queue_commit();
		}
	}
	PG_CATCH();
	{
		end_limit(limit_ms);
		moves = geterrcode() == ERRCODE_QUERY_CANCELED && (limit_ms > 0 || launcher_planner_yields(run_id));
		error = take_error(context, !moves);
		here = true;
	}
	PG_END_TRY();
	if (error)
	{
		*outcome = moves ? QUEUE_PLAN_MOVED : QUEUE_PLAN_DONE;
		if (moves)
			here = move_run(run_id, limit_ms == 0);
		else if (!fail_run(run_id, error))
			*outcome = QUEUE_PLAN_BUSY;
		FreeErrorData(error);
	}
	return here;
}

/* ----------------------------------------------------------------
 * For the worker
 * ----------------------------------------------------------------
 */

static bool
planner_is_there(PlannerLane lane)
{
	pid_t pid;

	if (planner_handles[lane] == NULL)
		return false;
	if (GetBackgroundWorkerPid(planner_handles[lane], &pid) != BGWH_STOPPED)
		return true;
	pfree(planner_handles[lane]);
	planner_handles[lane] = NULL;
	return false;
}

/* The planner has the name of its database, as the worker has. */
static const char *
database_of_worker(void)
{
	const char *name = strstr(MyBgworkerEntry->bgw_name, WORKER_NAME);

	return name ? name + strlen(WORKER_NAME) : "";
}

static void
fill_planner(BackgroundWorker *planner, PlannerLane lane)
{
	memset(planner, 0, sizeof(*planner));
	planner->bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION | BGWORKER_INTERRUPTIBLE;
	planner->bgw_start_time = BgWorkerStart_RecoveryFinished;
	planner->bgw_restart_time = BGW_NEVER_RESTART;
	planner->bgw_notify_pid = MyProcPid;
	planner->bgw_main_arg = MyBgworkerEntry->bgw_main_arg;
	strlcpy(planner->bgw_library_name, "pgsync_itsm", sizeof(planner->bgw_library_name));
	strlcpy(planner->bgw_function_name, "planner_main", sizeof(planner->bgw_function_name));
	snprintf(planner->bgw_name, BGW_MAXLEN, "pgsync_itsm planner %s", database_of_worker());
	strlcpy(planner->bgw_type, "pgsync_itsm planner", BGW_MAXLEN);
	launcher_planner_ticket(lane, planner->bgw_extra);
}

/* A run that ends the process that plans it would end the next one, too. */
static void
fail_lost_run(void)
{
	int64 run_id = launcher_lost_run();

	if (run_id == 0 || !queue_begin("pgsync_itsm: failing a run"))
		return;
	ereport(LOG, (errmsg("pgsync_itsm gives up run " INT64_FORMAT ": the process that planned it ended, each time",
						 run_id)));
	(void) queue_fail_run(run_id, unpack_sql_state(ERRCODE_QUERY_CANCELED),
						  "the process that planned it ended, each time",
						  "Look into the server log. No function that a source calls may catch query_canceled.");
	queue_commit();
}

/* The fast planner is there, and a run waits that is not its own. */
static long
relieve_planner(void)
{
	long wait_ms;

	if (launcher_relieve_planner(!planner_is_there(PLANNER_SLOW), &wait_ms) == PLANNER_MOVED)
	{
		planner_handles[PLANNER_SLOW] = planner_handles[PLANNER_FAST];
		planner_handles[PLANNER_FAST] = NULL;
		return 0;
	}
	return Max(wait_ms, LOOK_AGAIN_MS);
}

static bool
register_planner(PlannerLane lane)
{
	BackgroundWorker planner;
	MemoryContext	 old;
	bool			 registered;

	fill_planner(&planner, lane);
	old = MemoryContextSwitchTo(TopMemoryContext);
	registered = RegisterDynamicBackgroundWorker(&planner, &planner_handles[lane]);
	MemoryContextSwitchTo(old);
	return registered;
}

long
planner_start(PlannerLane lane)
{
	static bool reported = false;
	bool		registered;
	long		pause;

	if (planner_is_there(lane))
	{
		if (!launcher_planner_attached(lane))
			return LOOK_AGAIN_MS;
		pause = lane == PLANNER_FAST ? relieve_planner() : 0;
		if (planner_handles[lane] != NULL)
			return pause;
	}
	fail_lost_run();
	pause = launcher_planner_pause_ms(lane);
	if (pause > 0)
		return pause;
	registered = register_planner(lane);
	if (!registered && !reported)
		ereport(LOG, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					  errmsg("pgsync_itsm has no worker process left to plan a run"),
					  errhint("Raise the parameter \"%s\" and restart the server.", "max_worker_processes")));
	reported = !registered;
	return registered ? 0 : START_AGAIN_MS;
}

/* ----------------------------------------------------------------
 * The process
 * ----------------------------------------------------------------
 */

static void
handle_reload(void)
{
	if (!ConfigReloadPending)
		return;
	ConfigReloadPending = false;
	ProcessConfigFile(PGC_SIGHUP);
	planner_pin_settings();
}

/* The next run to plan, 0 if there is none or the extension is gone. */
static int64
next_plan(int64 after)
{
	bool  slow = launcher_planner_lane() == PLANNER_SLOW;
	int64 run_id;

	if (!queue_begin("pgsync_itsm: looking for a plan"))
		return 0;
	run_id = queue_next_plan(slow, after);
	queue_commit();
	return run_id;
}

/* A fast planner goes on to the next run after a while; one that has become slow takes its run with it. */
static bool
has_time_left(TimestampTz begin, PlannerLane lane)
{
	if (launcher_planner_lane() != lane)
		return false;
	return !TimestampDifferenceExceeds(begin, GetCurrentTimestamp(), pgsync_itsm_planner_slice);
}

/* Is it worth waiting for a row that is held?  The worker holds one for a moment only; for others, nobody waits. */
static bool
wait_for_row(QueuePlan outcome, int *times)
{
	if (outcome != QUEUE_PLAN_BUSY)
		*times = 0;
	else if (++*times > BUSY_TIMES)
		return false;
	else
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, BUSY_MS,
						 compat_wait_event("PgsyncItsmPlanner"));
		ResetLatch(MyLatch);
	}
	return true;
}

/* Plans one run as far as it goes, or its time does.  False if there is no use in going on. */
static bool
plan_run(int64 run_id, QueuePlan *outcome)
{
	TimestampTz begin = GetCurrentTimestamp();
	PlannerLane lane = launcher_planner_lane();
	int			busy = 0;
	bool		here;

	launcher_set_planner_run(run_id);
	QueryCancelPending = false; /* it was meant for another run */
	do
	{
		CHECK_FOR_INTERRUPTS();
		handle_reload();
		here = planner_step(run_id, 0, outcome);
	} while (here && (*outcome == QUEUE_PLAN_MORE || *outcome == QUEUE_PLAN_BUSY) && has_time_left(begin, lane) &&
			 wait_for_row(*outcome, &busy));
	if (here && *outcome == QUEUE_PLAN_MORE && launcher_planner_lane() != lane)
		here = move_run(run_id, true);
	launcher_set_planner_run(0);
	QueryCancelPending = false;
	launcher_wake_worker();
	return here;
}

/*
 * Runs are planned in turn.  One that waits for answers is the worker's now;
 * if it is still the next one, nothing is left for this process.
 */
static void
plan_all(MemoryContext context)
{
	int64	  previous = 0;
	QueuePlan outcome = QUEUE_PLAN_MORE;

	for (;;)
	{
		int64 run_id;

		CHECK_FOR_INTERRUPTS();
		handle_reload();
		MemoryContextReset(context);
		run_id = next_plan(previous);
		if (run_id == 0 || (run_id == previous && outcome != QUEUE_PLAN_MORE) || !plan_run(run_id, &outcome))
			return;
		previous = run_id;
	}
}

void
planner_main(Datum arg)
{
	MemoryContext context;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	launcher_attach_planner();
	BackgroundWorkerInitializeConnectionByOid(DatumGetObjectId(arg), InvalidOid, 0);
	planner_pin_settings();
	pin("application_name", MyBgworkerEntry->bgw_name);

	context = AllocSetContextCreate(TopMemoryContext, "pgsync_itsm planner", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(context);
	plan_all(context);
	queue_flush_statistics();
}
