/*
 * id.c
 *	  Identifiers in the order of time: UUID version 7 (RFC 9562, 5.7).
 *
 * The map and the log get a row for each item of a publish.  With random ids
 * each of them would touch another page of the index; these go to its end.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

PG_FUNCTION_INFO_V1(pgsync_itsm_new_id);

#define UNIX_EPOCH_US (((int64) POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY)

/* As much at a time, since asking costs as much as the rest of an id, and a publish makes two of them an item. */
#define RANDOM_LEN 8
#define RANDOM_POOL (RANDOM_LEN * 64)

static void
take_random(unsigned char *to)
{
	static unsigned char pool[RANDOM_POOL];
	static int			 used = RANDOM_POOL;
	static int			 owner = 0;

	/* never those of a process that this one was forked from */
	if (used == RANDOM_POOL || owner != MyProcPid)
	{
		if (!pg_strong_random(pool, RANDOM_POOL))
			ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not generate random values")));
		owner = MyProcPid;
		used = 0;
	}
	memcpy(to, pool + used, RANDOM_LEN);
	used += RANDOM_LEN;
}

/*
 * Milliseconds since 1970 in 48 bits; then the version, and in 12 bits the
 * part of the millisecond, so that what one process makes is in order (RFC
 * 9562, 6.2, method 3); the rest is random.
 */
Datum
pgsync_itsm_new_id(PG_FUNCTION_ARGS)
{
	static int64 last_us = 0;
	pg_uuid_t	*id = palloc(sizeof(pg_uuid_t));
	int64		 us = Max(GetCurrentTimestamp() + UNIX_EPOCH_US, last_us + 1);
	uint64		 ms = (uint64) us / 1000;
	uint32		 part = (uint32) (us % 1000) * 4; /* 4000 of 4096 */

	/* More than a microsecond's worth of them runs ahead of the clock for as long as it takes. */
	last_us = us;
	take_random(id->data + UUID_LEN - RANDOM_LEN);
	for (int i = 0; i < 6; i++)
		id->data[i] = (unsigned char) (ms >> (8 * (5 - i)));
	id->data[6] = (unsigned char) (0x70 | (part >> 8));
	id->data[7] = (unsigned char) part;
	id->data[8] = (unsigned char) ((id->data[8] & 0x3f) | 0x80);
	PG_RETURN_UUID_P(id);
}
