/*
 * pace.c
 *	  How fast one connection may be talked to.
 *
 * See pace.h.  Times come from the caller, so that tests can make them up.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#include "postgres.h"

#include "common/pg_prng.h"
#include "utils/timestamp.h"

#include "pace.h"

/* What a remote may make us wait at the most, whatever its header says. */
#define MAX_TOLD_PAUSE_S (2 * 3600)

#define MS(n) ((TimestampTz) (n) *1000)
#define WINDOW MS(3600 * 1000)

void
pace_init(Pace *pace, int max_in_flight)
{
	memset(pace, 0, sizeof(*pace));
	pace->seen_limit = -1;
	pace->seen_reset = -1;
	pace_set_limits(pace, max_in_flight, 0);
}

void
pace_set_limits(Pace *pace, int max_in_flight, int64 per_hour)
{
	pace->max_in_flight = Max(max_in_flight, 1);
	pace->per_hour = Max(per_hour, 0);
}

/* When the ceiling of the hour allows a request; 0 if it does. */
static TimestampTz
window_opens(const Pace *pace, TimestampTz now)
{
	if (pace->per_hour == 0 || pace->window_used < pace->per_hour || now >= pace->window_start + WINDOW)
		return 0;
	return pace->window_start + WINDOW;
}

long
pace_wait_ms(const Pace *pace, TimestampTz now)
{
	TimestampTz until = Max(pace->not_before, window_opens(pace, now));

	if (until <= now)
		return 0;
	return (long) ((until - now + 999) / 1000);
}

bool
pace_may_send(const Pace *pace, TimestampTz now)
{
	return pace->in_flight < pace->max_in_flight && pace_wait_ms(pace, now) == 0;
}

void
pace_sent(Pace *pace, TimestampTz now)
{
	if (now >= pace->window_start + WINDOW)
	{
		pace->window_start = now;
		pace->window_used = 0;
	}
	pace->window_used++;
	pace->in_flight++;
}

void
pace_answered(Pace *pace)
{
	Assert(pace->in_flight > 0);
	pace->in_flight--;
}

void
pace_observed(Pace *pace, int64 limit, int64 reset)
{
	if (limit >= 0)
		pace->seen_limit = limit;
	if (reset >= 0)
		pace->seen_reset = reset;
}

void
pace_succeeded(Pace *pace)
{
	pace->failures = 0;
}

long
pace_backoff_ms(int attempts)
{
	int	   doublings = Min(Max(attempts, 1) - 1, 10);
	double base = Min((double) PACE_FIRST_DELAY_MS * (1 << doublings), (double) PACE_MAX_DELAY_MS);

	return (long) Min(base * (0.5 + pg_prng_double(&pg_global_prng_state)), (double) PACE_MAX_DELAY_MS);
}

/* Of several answers that ask for a pause, the longest counts. */
long
pace_pause(Pace *pace, TimestampTz now, long retry_after_s)
{
	long ms;

	pace->failures = Min(pace->failures + 1, 1000);
	if (retry_after_s >= 0)
		ms = Min(retry_after_s, MAX_TOLD_PAUSE_S) * 1000;
	else
		ms = pace_backoff_ms(pace->failures);
	pace->not_before = Max(pace->not_before, now + MS(ms));
	return ms;
}
