# PgsyncItsmBurst.pm: very many changes of not so many records, in a short time.
#
# burst(records => n, changes => m) changes n records (as many applications as profiles) m times, half of it while the
# worker runs, half while it is stopped, in transactions of one to five hundred changes.  Both sides have to be equal after
# either half; it is counted what the queue, the tables and the statistics of statements held meanwhile.

package PgsyncItsmBurst;

use strict;
use warnings;
use Exporter 'import';
use Test::More;
use Time::HiRes qw(time);
use PostgreSQL::Test::Utils;
use PgsyncItsm;
use PgsyncItsmCompare;

our @EXPORT = qw(burst);

my ($node, $sim);

sub sql { return $node->safe_psql('postgres', $_[0]) }

sub settled
{
	my ($name, $seconds) = @_;
	return ok(poll_query($node, 'postgres',
			"SELECT NOT EXISTS (SELECT FROM integration_queue) AND NOT EXISTS (SELECT FROM integration_runs WHERE status IN ('queued', 'planning', 'running'))
			    AND NOT EXISTS (SELECT FROM integration_connections WHERE full_plan_after IS NOT NULL)", 't', seconds => $seconds), "$name: all is sent");
}

# change_much(changes, salt): transactions of 1, 1, 5, 10, ... 500 changes of records that follow each other, so that
# all records have their turn, again and again; returns how many transactions it took.
my $procedure = q{
	CREATE TABLE burst_records AS
	SELECT row_number() OVER (ORDER BY id) AS n, id, kind FROM (SELECT id, 'a' AS kind FROM applications WHERE name LIKE 'Application %'
	                                                         UNION ALL SELECT id, 'p' FROM deployment_profiles) AS r;
	CREATE UNIQUE INDEX ON burst_records (n);
	CREATE PROCEDURE change_much(changes integer, salt text, INOUT transactions integer) LANGUAGE plpgsql AS $$
	DECLARE
	    records CONSTANT integer := (SELECT count(*) FROM burst_records);
	    place integer := 0;
	    size integer;
	    made integer := 0;
	BEGIN
	    WHILE made < changes LOOP
	        size := least((ARRAY[1, 1, 5, 10, 20, 50, 100, 1, 10, 500])[1 + transactions % 10], changes - made, records);
	        UPDATE applications AS a SET short_description = salt || made FROM burst_records AS r
	         WHERE r.kind = 'a' AND r.id = a.id AND (r.n + records - place - 1) % records < size;
	        UPDATE deployment_profiles AS p SET version = right(salt || made, 20) FROM burst_records AS r
	         WHERE r.kind = 'p' AND r.id = p.id AND (r.n + records - place - 1) % records < size;
	        place := (place + size) % records;
	        made := made + size;
	        transactions := transactions + 1;
	        COMMIT;
	    END LOOP;
	END $$};

# What is emptied again may keep a megabyte.  Kilobytes of these: tables, and their indexes, which VACUUM does not make smaller.
my $transient = q{FROM pg_class AS c JOIN pg_depend AS d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
	WHERE c.relkind = 'r' AND (c.relname = 'integration_queue'
	   OR c.relnamespace = 'pgsync_itsm'::regnamespace AND c.relname IN ('run_keys', 'claims', 'plan_records', 'plan_links', 'lookups', 'lookup_rows'))};

sub tables_kb  { return sql("SELECT coalesce(sum(pg_table_size(c.oid)), 0) / 1024 $transient") }
sub indexes_kb { return sql("SELECT coalesce(sum(pg_indexes_size(c.oid)), 0) / 1024 $transient") }

sub vacuumed
{
	my ($name, $limit) = @_;
	my @tables = split /\n/, sql("SELECT c.oid::regclass $transient");
	is(scalar @tables, 7, "$name: the tables are there");
	# what is still seen by somebody, or locked for a moment, goes the next time
	ok(poll_until(sub { sql("VACUUM $_") for @tables; return tables_kb() <= $limit }, what => 'small tables'), "$name: the tables are as small as before")
	  or diag(sql("SELECT string_agg(format('%s %s', c.oid::regclass, pg_table_size(c.oid)), E'\\n') $transient"));
	return;
}

# Somebody else who works on records that the burst leaves alone: no lock of ours may be in the way.
sub begin_others
{
	my ($ns) = @_;
	sql("INSERT INTO applications (workspace_id, name) SELECT id, 'Other ' || n FROM generate_series(1, 4) AS n,
		(SELECT id FROM workspaces WHERE namespace_id = '$ns' ORDER BY id LIMIT 1) AS w");
	my $dir = PostgreSQL::Test::Utils::tempdir('others');
	append_to_file("$dir/script.sql", "\\set n :client_id + 1\nBEGIN;\nUPDATE applications SET short_description = 'Other ' || clock_timestamp() WHERE name = 'Other ' || :n;\n"
		  . "INSERT INTO application_contacts (application_id, contact_id, role_type) SELECT a.id, c.id, 'sme' FROM applications a, (SELECT id FROM contacts ORDER BY id LIMIT 1) AS c WHERE a.name = 'Other ' || :n;\n"
		  . "DELETE FROM application_contacts WHERE role_type = 'sme' AND application_id = (SELECT id FROM applications WHERE name = 'Other ' || :n);\nEND;\n");
	my $others = { out => '', err => '' };
	local $ENV{PGOPTIONS} = '-c lock_timeout=2s -c statement_timeout=5s';
	$others->{harness} = IPC::Run::start([ 'pgbench', '-n', '-c', 4, '-R', 40, '-T', 600, '-f', "$dir/script.sql", '-h', $node->host, '-p', $node->port, 'postgres' ],
		'<', \undef, '>', \$others->{out}, '2>', \$others->{err});
	return $others;
}

sub end_others
{
	my ($others) = @_;
	my $alive = $others->{harness}->pumpable;
	$others->{harness}->signal('INT');
	eval { $others->{harness}->finish };
	ok($alive, 'no other session was held up for two seconds, or failed') or diag($others->{err});
	unlike($others->{err}, qr/ERROR|timeout/, 'none of their statements failed');
	cmp_ok(sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgbench'"), '<=', 4, 'they are gone');
	return;
}

# Sessions that wait for one of our processes, as often as this is asked while something runs.
my $blocked = "SELECT count(*) FROM pg_stat_activity AS a, unnest(pg_blocking_pids(a.pid)) AS b(pid) JOIN pg_stat_activity AS o ON o.pid = b.pid
	WHERE a.backend_type = 'client backend' AND o.backend_type LIKE 'pgsync_itsm%'";

sub change_much
{
	my ($changes, $salt) = @_;
	my ($out, $err, $seen) = ('', '', 0);
	my $begun = time();
	my $h = IPC::Run::start([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'), '-c', "CALL change_much($changes, '$salt', 0)" ], '<', \undef, '>', \$out, '2>', \$err);
	while ($h->pumpable)
	{
		$seen += sql($blocked);
		$h->pump_nb;
	}
	ok($h->finish, "$salt: changed") or diag($err);
	is($seen, 0, "$salt: nobody was seen to wait for one of our processes");
	chomp $out;
	return ($out, time() - $begun);
}

sub serve
{
	my ($databases) = @_;
	sql("ALTER SYSTEM SET pgsync_itsm.databases = '$databases'");
	sql('SELECT pg_reload_conf()');
	return ok(poll_until(sub { (worker_pid($node, 'postgres') ne '') == ($databases ne '') }), $databases ? 'the worker runs' : 'the worker is stopped');
}

sub items_since { return sql("SELECT count(*) FROM integration_run_items WHERE run_id > $_[0]") }

sub burst
{
	my (%opt) = @_;
	my $apps = $opt{records} / 2;
	$node = new_cluster(name => 'burst', conf => "pgsync_itsm.debounce = '200ms'\nshared_preload_libraries = 'pgsync_itsm, pg_stat_statements'\npg_stat_statements.track = all\nautovacuum = off\n", slow_poll => 1);
	$sim = start_simulator(options => [ '--switch', 'choice_cache_seconds=0' ]);
	sql('CREATE EXTENSION pg_stat_statements');
	load_getinsync($node, 'postgres', generate => { applications => $apps, profiles => 1, services => 1, products => 1 });
	load_platform($sim, $node, 'postgres');
	my $ns = namespace_of($node, 'postgres');
	my $before = remember($sim);
	connect_and_activate($node, 'postgres', $sim, namespace => $ns, args => { sync_schedule => "'on_change'" });
	is(publish_and_wait($node, 'postgres', $ns, seconds => $opt{seconds})->{status}, 'done', 'the portfolio is published');
	settled('the portfolio', $opt{seconds});
	sql($procedure);
	is(sql('SELECT count(*) FROM burst_records'), $opt{records}, "$opt{records} records");
	vacuumed('before', 512);
	my $small = tables_kb();

	# while the worker runs
	my $last = sql('SELECT max(id) FROM integration_runs');
	my $others = begin_others($ns);
	my ($transactions, $seconds) = change_much($opt{changes} / 2, 'running');
	end_others($others);
	my $begun = time();
	settled('running', $opt{seconds});
	my $items = items_since($last);
	my $runs = sql("SELECT count(*) FROM integration_runs WHERE id > $last");
	diag(sprintf 'worker running: %d changes of %d records in %d transactions, %.1f s; %d items in %d runs, the last of it sent %.1f s later',
		$opt{changes} / 2, $opt{records}, $transactions, $seconds, $items, $runs, time() - $begun);
	is(sql("SELECT max(n) FROM (SELECT count(*) AS n FROM integration_run_items WHERE run_id > $last GROUP BY run_id, entity_type, entity_id) AS i"), 1, 'running: a record is in a run once');
	cmp_ok($items, '<', $opt{changes} / 2, 'running: fewer items than changes');
	both_sides_equal($node, 'postgres', $ns, $sim, $before, name => 'running: both sides are equal');
	vacuumed('running', $small + 1024);
	my $indexes = indexes_kb();

	# while it is stopped
	serve('');
	$last = sql('SELECT max(id) FROM integration_runs');
	sql('SELECT pg_stat_statements_reset()');
	($transactions, $seconds) = change_much($opt{changes} / 2, 'stopped');
	my $ours = "FROM pg_stat_statements WHERE query ~ 'pgsync_itsm|integration_' AND query !~ 'pg_stat_statements|burst'";
	is(sql("SELECT coalesce(string_agg(query || ' ' || calls, E'\\n'), '') $ours AND calls > 5"), '', 'stopped: no statement of ours for each change, or each transaction');
	my $kept = sql('SELECT count(*), sum(cardinality(keys)), pg_total_relation_size(\'integration_queue\') / 1024 FROM integration_queue');
	my ($rows, $keys, $kb) = split /\|/, $kept;
	cmp_ok($rows, '<=', $transactions * 12, 'stopped: a transaction leaves a few rows in the queue');
	$begun = time();
	serve('postgres');
	settled('stopped', $opt{seconds});
	$items = items_since($last);
	diag(sprintf 'worker stopped: %d changes in %d transactions, %.1f s; queue of %d rows, %d keys, %d kB; %d items, sent in %.1f s',
		$opt{changes} / 2, $transactions, $seconds, $rows, $keys, $kb, $items, time() - $begun);
	is($items, $opt{records}, 'stopped: as many items as records');
	both_sides_equal($node, 'postgres', $ns, $sim, $before, name => 'stopped: both sides are equal');
	vacuumed('stopped', $small + 1024);
	cmp_ok(indexes_kb(), '<=', $indexes * 2 + 1024, 'stopped: the indexes have not grown much');
	my ($count, $most) = split /\|/, sql("SELECT count(*), max(calls) $ours");
	diag("statements of ours, the worker's included: $count, the most frequent one called $most times");
	cmp_ok($count, '<', 500, 'few statements of ours are distinct');
	cmp_ok($most, '<', $opt{changes} / 20, 'none is called for each change');
	$sim->stop;
	$node->stop;
	return;
}

1;
