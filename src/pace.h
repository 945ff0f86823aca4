/*
 * pace.h
 *	  How fast one connection may be talked to.
 *
 * Counting only: no clock of its own, no SPI, no network.  Pauses of the whole
 * connection live here; retries of single items live in the tables.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#ifndef PGSYNC_ITSM_PACE_H
#define PGSYNC_ITSM_PACE_H

#include "postgres.h"
#include "datatype/timestamp.h"

#define PACE_FIRST_DELAY_MS 1000
#define PACE_MAX_DELAY_MS 60000

typedef struct Pace
{
	int			max_in_flight;
	int			in_flight;
	int			failures;	/* consecutive ones, for the backoff */
	TimestampTz not_before; /* pause of the whole connection; 0 = none */
	int64		per_hour;	/* own ceiling, 0 = none */
	TimestampTz window_start;
	int64		window_used;
	int64		seen_limit; /* last X-RateLimit-Limit, -1 = none seen */
	int64		seen_reset; /* last X-RateLimit-Reset, UNIX seconds, -1 = none seen */
} Pace;

extern void pace_init(Pace *pace, int max_in_flight);

/* After a change of the connection's settings; keeps what is in flight. */
extern void pace_set_limits(Pace *pace, int max_in_flight, int64 per_hour);

/* May one more request start now? */
extern bool pace_may_send(const Pace *pace, TimestampTz now);

/* Milliseconds until time alone allows a request; 0 if it does, whatever is in flight. */
extern long pace_wait_ms(const Pace *pace, TimestampTz now);

extern void pace_sent(Pace *pace, TimestampTz now);
extern void pace_answered(Pace *pace);

/* What the answer said about limits; -1 = nothing. */
extern void pace_observed(Pace *pace, int64 limit, int64 reset);

/* The connection answered as it should: the backoff starts anew. */
extern void pace_succeeded(Pace *pace);

/*
 * The connection as a whole is to be left alone (429, 5xx, no answer):
 * retry_after_s as told, or -1 for exponential backoff with jitter.  Returns
 * the pause in milliseconds.
 */
extern long pace_pause(Pace *pace, TimestampTz now, long retry_after_s);

/* Delay before attempt n+1 of anything: 1 s * 2^(n-1), +-50 %, at most a minute. */
extern long pace_backoff_ms(int attempts);

#endif /* PGSYNC_ITSM_PACE_H */
