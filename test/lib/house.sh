# house.sh: what check, run-regress, run-tap and demo share.  To be sourced by bash.
#
# PostgreSQL refuses to run as root, so everything that runs a server does so as the user postgres when we
# are root, and as ourselves otherwise.  That user may not be able to read the working tree, so the tests
# work on a copy in a temporary directory that is removed at the end, also on Ctrl-C.

set -u

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
PG_CONFIG=${PG_CONFIG:-pg_config}
MAKE=${MAKE:-make}
SERVER_USER=postgres
export LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1
unset LC_ALL LC_MESSAGES LANGUAGE MAKEFLAGS MFLAGS MAKELEVEL PGHOST PGPORT PGUSER PGDATABASE PGOPTIONS PGSERVICE \
	PGPASSFILE PGPASSWORD http_proxy https_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY all_proxy

WORK=
CLUSTERS=()
PROCESSES=()

say()  { printf '%s\n' "$*"; }
fail() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

# Runs a command as the user that may run a server.
as_server()
{
	if [ "$(id -u)" = 0 ]
	then
		runuser -u "$SERVER_USER" -- env HOME="$WORK" "$@"
	else
		"$@"
	fi
}

read_pg_config()
{
	BINDIR=$("$PG_CONFIG" --bindir) || fail "no pg_config: make deps"
	PKGLIBDIR=$("$PG_CONFIG" --pkglibdir)
	SHAREDIR=$("$PG_CONFIG" --sharedir)
	PGXS_SRC=$(cd "$(dirname "$("$PG_CONFIG" --pgxs)")/.." && pwd)
	export PATH="$BINDIR:$PATH"
}

# Makes the temporary directory and arranges for the end of everything that is started from here.
begin_work()
{
	WORK=$(mktemp -d "${TMPDIR:-/tmp}/pgsync_itsm.XXXXXX") || exit 1
	trap end_work EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	chmod 755 "$WORK"
	mkdir "$WORK/src"
	mkdir -p "$TOP/expected" && cp -r "$TOP/test" "$TOP/sql" "$TOP/expected" "$TOP/doc" "$WORK/src/"
	find "$WORK/src" -name __pycache__ -prune -exec rm -rf {} +
	[ "$(id -u)" != 0 ] || chown -R "$SERVER_USER" "$WORK"
	cd "$WORK" || exit 1
}

# Ends only what was started here: by process id, by data directory.
end_work()
{
	local status=$? pid data
	trap '' INT TERM HUP
	for pid in "${PROCESSES[@]}"
	do
		kill "$pid" 2>/dev/null
	done
	if [ -n "$WORK" ]
	then
		# whatever a test left behind in our own directory, too
		while read -r data
		do
			as_server "$BINDIR/pg_ctl" -D "${data%/postmaster.pid}" -m immediate -w -t 30 stop >/dev/null 2>&1
		done < <(find "$WORK" -name postmaster.pid 2>/dev/null)
	fi
	declare -F at_end >/dev/null && at_end "$status"
	cd /
	[ -z "$WORK" ] || rm -rf "$WORK"
	exit "$status"
}

# start_cluster NAME [setting...]: a private cluster, socket in its own directory, no TCP.
# Sets PGHOST and PGPORT, so that psql finds it.
start_cluster()
{
	local name=$1 data="$WORK/$1/data" setting
	shift
	as_server mkdir -p "$WORK/$name/socket"
	as_server "$BINDIR/initdb" -D "$data" -U "$SERVER_USER" -A trust -N --locale=C.UTF-8 -E UTF8 \
		>"$WORK/$name.initdb" 2>&1 || { cat "$WORK/$name.initdb" >&2; fail "initdb failed"; }
	{
		say "listen_addresses = ''"
		say "unix_socket_directories = '$WORK/$name/socket'"
		say "fsync = off"
		say "max_worker_processes = 16"
		say "log_line_prefix = '%m [%p] %q%a '"
		say "shared_preload_libraries = 'pgsync_itsm'"
		for setting in "$@"
		do
			say "$setting"
		done
	} | as_server tee -a "$data/postgresql.conf" >/dev/null
	as_server "$BINDIR/pg_ctl" -D "$data" -l "$WORK/$name/log" -w -t 60 start >"$WORK/$name.start" 2>&1 ||
		{ cat "$WORK/$name.start" "$WORK/$name/log" >&2; fail "the private cluster does not start"; }
	export PGHOST="$WORK/$name/socket" PGPORT=5432 PGUSER=$SERVER_USER PGDATABASE=postgres
}

# Where `make install` needs rights that we do not have, it is given them by sudo.
install_rights()
{
	if [ -w "$PKGLIBDIR" ] && [ -w "$SHAREDIR/extension" ]
	then
		say ''
	elif command -v sudo >/dev/null
	then
		say sudo
	else
		fail "no right to write to $PKGLIBDIR, and no sudo: run as root"
	fi
}

# Is what is installed this very build?
is_installed()
{
	local script
	script=$(cd "$TOP" && ls pgsync_itsm--*.sql | tail -n 1)
	cmp -s "$TOP/pgsync_itsm.so" "$PKGLIBDIR/pgsync_itsm.so" &&
		cmp -s "$TOP/pgsync_itsm.control" "$SHAREDIR/extension/pgsync_itsm.control" &&
		cmp -s "$TOP/$script" "$SHAREDIR/extension/$script"
}

# Builds, and installs into the server's own directories: PostgreSQL before 18 looks for an extension
# nowhere else.  remove_installed undoes that, unless an earlier installation was there.
install_build()
{
	local rights
	(cd "$TOP" && "$MAKE" --no-print-directory -s PG_CONFIG="$PG_CONFIG" all) || fail "the build failed"
	INSTALLED_HERE=no
	is_installed && return
	rights=$(install_rights) || exit 1
	INSTALLED_HERE=yes
	if [ -e "$SHAREDIR/extension/pgsync_itsm.control" ]
	then
		INSTALLED_HERE=no
		say "pgsync_itsm was installed already: replaced by this build, and left in place at the end"
	fi
	(cd "$TOP" && $rights "$MAKE" --no-print-directory -s PG_CONFIG="$PG_CONFIG" install >/dev/null) ||
		fail "make install failed"
}

remove_installed()
{
	[ "${INSTALLED_HERE:-no}" = yes ] || return 0
	# somebody else's installation came in between: not ours to remove
	cmp -s "$TOP/pgsync_itsm.so" "$PKGLIBDIR/pgsync_itsm.so" || return 0
	(cd "$TOP" && $(install_rights) "$MAKE" --no-print-directory -s PG_CONFIG="$PG_CONFIG" uninstall >/dev/null)
}

# start_simulator [option...]: sets SIM_URL.
start_simulator()
{
	local port_file="$WORK/simulator.port" i
	as_server "$WORK/src/test/simulator/itsm-simulator" --port 0 --port-file "$port_file" "$@" \
		>"$WORK/simulator.log" 2>&1 &
	SIM_PID=$!
	PROCESSES+=("$SIM_PID")
	for i in $(seq 100)
	do
		[ -s "$port_file" ] && break
		kill -0 "$SIM_PID" 2>/dev/null || break
		sleep 0.1
	done
	[ -s "$port_file" ] || { cat "$WORK/simulator.log" >&2; fail "the simulator does not start"; }
	SIM_URL="http://127.0.0.1:$(cat "$port_file")"
}
