/*
 * adapter.c
 *	  Finds the adapter of a platform, and settings in a connection.
 *
 * The one place that knows which platforms there are.  No protocol here.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#include "postgres.h"

#include "adapter.h"
#include "json.h"

static const Adapter *const adapters[] = {
	&servicenow_adapter,
	&halo_adapter,
};

/* The adapter of a platform, static; NULL if it has none.  Never throws. */
const Adapter *
adapter_for(const char *platform)
{
	for (int i = 0; platform != NULL && i < (int) lengthof(adapters); i++)
	{
		if (strcmp(adapters[i]->platform, platform) == 0)
			return adapters[i];
	}
	return NULL;
}

/* A setting's text in UTF-8, borrowed from conn; NULL if it is absent or empty.  Never throws. */
const char *
adapter_setting(const AdapterConnection *conn, const char *name)
{
	const char *text = json_scalar(conn->settings, name);

	return text != NULL && text[0] != '\0' ? text : NULL;
}
