# Compares: 100,000 CIs, read from the beginning, with a crash in the middle, and ten changes after that.  Counts calls and the
# memory of the processes that read.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PgsyncItsm;
use PgsyncItsmSoak;
use PostgreSQL::Test::Utils;
use Test::More;

my $records = 100_000;
my $city = '11111111-1111-4111-8111-111111111111';
my $jane = 'jane.doe:hers';
my $node = new_cluster(name => 'read', conf => "pgsync_itsm.debounce = 0\n");
my $sim  = start_simulator(options => [ '--user', "$jane:itil,asset,admin" ]);
load_platform($sim);
load_getinsync($node, 'postgres');
my $conn = connect_and_activate($node, 'postgres', $sim, namespace => $city, settings => { read_tables => 'cmdb_ci_server, sys_user' });
sub sql { return $node->safe_psql('postgres', $_[0]) }
sql("SELECT itsm_set('$conn', 'sync_direction', 'both')");
for my $part (0 .. $records / 5_000 - 1)
{
	$sim->load({ cmdb_ci_linux_server => [ map { { name => sprintf('srv%06d', $part * 5_000 + $_), os => 'Linux', serial_number => "SN$part-$_" } } 1 .. 5_000 ] });
}

# Kilobytes of their own of all processes of ours in this database.
sub memory
{
	my @pids = split /\n/, sql("SELECT pid FROM pg_stat_activity WHERE backend_type LIKE 'pgsync_itsm%' AND datname = 'postgres'");
	my $most = 0;
	for my $kb (map { PgsyncItsmSoak::worker_memory($_) // 0 } @pids) { $most = $kb if $kb > $most }
	return $most;
}

sub rows { return sql("SELECT coalesce(max(rows), 0) FROM integration_watermarks WHERE external_table = 'cmdb_ci_server'") }

# Waits until so many rows were read; the most memory on the way.
sub read_until
{
	my ($wanted) = @_;
	my $most = 0;
	ok(poll_until(sub { my $now = memory(); $most = $now if $now > $most; return rows() >= $wanted }, seconds => 600), "$wanted rows are read");
	return $most;
}

my ($run) = split /\n/, sql("SELECT itsm_subscribe('$city')");
my $early = read_until($records / 10);
my $late = read_until($records / 2);
cmp_ok($late, '<', $early * 1.25 + 4096, 'memory does not grow with what is read') or diag("$early kB, $late kB");
my $before = rows();
kill 9, worker_pid($node, 'postgres');
ok(poll_query($node, 'postgres', 'SELECT 1', '1', seconds => 120), 'the cluster is back');
cmp_ok(rows(), '>=', $before, 'what was read before the crash is kept');
is(wait_for_run($node, 'postgres', $run, seconds => 900)->{status}, 'done', 'the run goes on');
is(sql("SELECT count(*) FROM integration_external_records WHERE target = 'cmdb_ci_server'"), $records, 'every CI is in the mirror');
cmp_ok(rows(), '<=', $records + 1000, 'not more than one page was read again') or diag(rows());
is(sql("SELECT complete AND swept_whole FROM integration_watermarks WHERE external_table = 'cmdb_ci_server'"), 't', 'which is proven to be all');
note("memory of one process: $early kB at a tenth, $late kB in the middle");

my @ids = split /\n/, sql("SELECT external_id FROM integration_external_records WHERE target = 'cmdb_ci_server' ORDER BY external_id LIMIT 10");
$sim->by_hand($jane, PATCH => "cmdb_ci_linux_server/$_", { os => 'Debian' }) for @ids;
$sim->reset_counters;
($run) = split /\n/, sql("SELECT itsm_subscribe('$city')");
is(wait_for_run($node, 'postgres', $run, seconds => 120)->{status}, 'done', 'read again');
is(sql("SELECT count(*) FROM integration_external_servers WHERE os = 'Debian'"), '10', 'ten changes are seen');
cmp_ok($sim->stats->{requests}, '<=', 4, 'in few calls') or diag($sim->stats->{requests});
is(rows(), '10', 'and nothing else is read');

$sim->stop;
$node->stop;
done_testing();
