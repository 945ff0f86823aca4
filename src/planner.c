/*
 * planner.c
 *	  The planner process: SQL phases of a plan, one transaction each.
 *
 * Started by the worker when a plan is too long for it, ends when no plan
 * waits.  What it did stands in the tables: whoever comes after it, or the
 * worker after a crash, goes on from there.  SIGINT cancels the step (a run
 * that was cancelled), SIGTERM ends the process.
 *
 * Must not: talk to a platform, plan two runs at a time.
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
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "compat.h"
#include "launcher.h"
#include "planner.h"
#include "queue.h"

/* Asked for but not possible now: no worker slot, or the last one failed. */
#define START_AGAIN_MS 5000

/* It has a process, but no place: it begins just now, or has just ended. */
#define LOOK_AGAIN_MS 100

/* The worker's: its planner, if it started one. */
static BackgroundWorkerHandle *planner_handle = NULL;

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
	pin("jit", "off");
	pin("idle_in_transaction_session_timeout", "0");
	if (synchronous_commit == SYNCHRONOUS_COMMIT_OFF)
		pin("synchronous_commit", "local");
	/* Small statements, run often: compiling one costs more than it ever saves. */
	pin("jit", "off");
}

/* Ends the failed transaction; the error, copied, is the caller's to free. */
static ErrorData *
take_error(MemoryContext context)
{
	ErrorData *error;

	MemoryContextSwitchTo(context);
	HOLD_INTERRUPTS();
	EmitErrorReport();
	error = CopyErrorData();
	FlushErrorState();
	queue_abort();
	MemoryContextSwitchTo(context);
	RESUME_INTERRUPTS();
	return error;
}

static void
fail_run(int64 run_id, const ErrorData *error)
{
	launcher_report_error(error->sqlerrcode, error->message);
	if (!queue_begin("pgsync_itsm: failing a run"))
		return;
	queue_fail_run(run_id, unpack_sql_state(error->sqlerrcode), error->message, error->hint);
	queue_commit();
}

bool
planner_step(int64 run_id, QueuePlan *outcome)
{
	MemoryContext context = CurrentMemoryContext;
	volatile bool here = false;
	ErrorData *volatile error = NULL;

	*outcome = QUEUE_PLAN_DONE;
	PG_TRY();
	{
		here = queue_begin("pgsync_itsm: planning");
		if (here)
		{
			*outcome = queue_plan_step(run_id);
			queue_commit();
		}
	}
	PG_CATCH();
	{
		error = take_error(context);
		here = true;
	}
	PG_END_TRY();
	if (error)
	{
		*outcome = QUEUE_PLAN_DONE;
		fail_run(run_id, error);
		FreeErrorData(error);
	}
	return here;
}

/* ----------------------------------------------------------------
 * For the worker
 * ----------------------------------------------------------------
 */

static bool
planner_is_there(void)
{
	pid_t pid;

	if (planner_handle == NULL)
		return false;
	if (GetBackgroundWorkerPid(planner_handle, &pid) != BGWH_STOPPED)
		return true;
	pfree(planner_handle);
	planner_handle = NULL;
	return false;
}

static void
fill_planner(BackgroundWorker *planner)
{
	memset(planner, 0, sizeof(*planner));
	planner->bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION | BGWORKER_INTERRUPTIBLE;
	planner->bgw_start_time = BgWorkerStart_RecoveryFinished;
	planner->bgw_restart_time = BGW_NEVER_RESTART;
	planner->bgw_notify_pid = MyProcPid;
	planner->bgw_main_arg = MyBgworkerEntry->bgw_main_arg;
	strlcpy(planner->bgw_library_name, "pgsync_itsm", sizeof(planner->bgw_library_name));
	strlcpy(planner->bgw_function_name, "planner_main", sizeof(planner->bgw_function_name));
	strlcpy(planner->bgw_name, "pgsync_itsm planner", BGW_MAXLEN);
	strlcpy(planner->bgw_type, "pgsync_itsm planner", BGW_MAXLEN);
	memcpy(planner->bgw_extra, MyBgworkerEntry->bgw_extra, BGW_EXTRALEN);
}

long
planner_start(void)
{
	static bool		 reported = false;
	BackgroundWorker planner;
	MemoryContext	 old;
	bool			 registered;
	long			 pause;

	if (planner_is_there())
		return launcher_planner_attached() ? 0 : LOOK_AGAIN_MS;
	pause = launcher_planner_pause_ms();
	if (pause > 0)
		return pause;
	fill_planner(&planner);
	old = MemoryContextSwitchTo(TopMemoryContext);
	registered = RegisterDynamicBackgroundWorker(&planner, &planner_handle);
	MemoryContextSwitchTo(old);
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
next_plan(void)
{
	int64 run_id;

	if (!queue_begin("pgsync_itsm: looking for a plan"))
		return 0;
	run_id = queue_next_plan();
	queue_commit();
	return run_id;
}

/* Plans one run as far as it goes.  False if there is no use in going on. */
static bool
plan_run(int64 run_id)
{
	QueuePlan outcome = QUEUE_PLAN_MORE;
	bool	  here = true;

	launcher_set_planner_run(run_id);
	while (here && outcome == QUEUE_PLAN_MORE)
	{
		CHECK_FOR_INTERRUPTS();
		handle_reload();
		here = planner_step(run_id, &outcome);
	}
	launcher_set_planner_run(0);
	launcher_wake_worker();
	return here;
}

/*
 * A run that waits for answers is the worker's now; if it is still the next
 * one, nothing is left for this process.
 */
static void
plan_all(MemoryContext context)
{
	int64 previous = 0;

	for (;;)
	{
		int64 run_id;

		CHECK_FOR_INTERRUPTS();
		handle_reload();
		MemoryContextReset(context);
		run_id = next_plan();
		if (run_id == 0 || run_id == previous || !plan_run(run_id))
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
