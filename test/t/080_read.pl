# Reading back over HTTP: the first pull, what changed since, what was deleted, what is hidden, and platforms that lie about
# how much there is.  Compared with the platform itself, table by table.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PgsyncItsm;
use PostgreSQL::Test::Utils;
use Test::More;
use Encode ();

my $city = '11111111-1111-4111-8111-111111111111';
my $jane = 'jane.doe:hers';
my @tables = qw(cmdb_ci_business_app cmdb_ci_service_auto service_offering cmdb_ci_service_technical cmdb_software_product_model
	ast_contract core_company sys_user sys_user_group cmdb_ci_server cmdb_ci_computer);
my $node = new_cluster(name => 'read', conf => "pgsync_itsm.debounce = 0\n");
my %below = (cmdb_ci_server => ['cmdb_ci_linux_server'], cmdb_ci_service_auto => ['cmdb_ci_service_discovered', 'cmdb_ci_service_calculated']);
my ($sim, $conn);
my $taken = 0;

sub sql { return Encode::decode('UTF-8', $node->safe_psql('postgres', $_[0])) }

# A platform that was published to, and the connection that reads it.
sub begin
{
	my (%opt) = @_;
	$sim = start_simulator(options => [ '--user', "$jane:itil,asset,admin" ], %opt);
	load_platform($sim);
	$conn = connect_and_activate($node, 'postgres', $sim, namespace => $city);
	is(publish_and_wait($node, 'postgres', $city)->{status}, 'done', 'published');
	return;
}

sub read_back
{
	my (%opt) = @_;
	my ($run) = split /\n/, sql("SELECT itsm_subscribe('$city')");
	my $row = wait_for_run($node, 'postgres', $run, seconds => $opt{seconds} // 60);
	is($row->{status}, $opt{status} // 'done', $opt{name} // 'read') or diag($row->{error_message} // '');
	return $row;
}

# Rows of a table there, classes below included, and in the mirror.
sub there
{
	my ($table) = @_;
	my $dump = $sim->dump($table, @{ $below{$table} // [] });
	my @rows = map { @$_ } values %$dump;
	return { map { $_->{sys_id} => $_->{name} // $_->{short_description} // '' } @rows };
}

sub mirror
{
	my ($table) = @_;
	return { map { split /\|/, $_, 2 } split /\n/,
		sql("SELECT external_id, coalesce(name, '') FROM integration_external_records WHERE connection_id = '$conn' AND target = '$table'") };
}

sub in_step
{
	my ($name, @which) = @_;
	is_deeply(mirror($_), there($_), "$name: $_") for @which ? @which : @tables;
	return;
}

sub inbox { return sql("SELECT origin, entity_type, coalesce(body ->> 'short_description', CASE WHEN body IS NULL THEN 'gone' END, '') FROM integration_inbox WHERE connection_id = '$conn' AND id > $taken AND reason IS DISTINCT FROM 'superseded by a newer reading' ORDER BY 1, 2, 3") }
sub taken { $taken = sql('SELECT coalesce(max(id), 0) FROM integration_inbox'); return }
sub watermark { return sql("SELECT $_[1] FROM integration_watermarks WHERE connection_id = '$conn' AND external_table = '$_[0]'") }
sub ours { return sql("SELECT external_id FROM integration_sync_map WHERE connection_id = '$conn' AND entity_type = '$_[0]' AND created_by_us ORDER BY native_key LIMIT 1 OFFSET " . ($_[1] // 0)) }

load_getinsync($node, 'postgres');
begin();
my ($out, $err) = ('', '');
$node->psql('postgres', "SELECT itsm_subscribe('$city')", stdout => \$out, stderr => \$err);
like($err, qr/does not read: its direction is "publish".*HINT:  SELECT itsm_set/s, 'a connection that only publishes does not read');
sql("SELECT itsm_set('$conn', 'sync_direction', 'both')");

# ---- first pull ------------------------------------------------------------------------------------

$sim->load({ cmdb_ci_linux_server => [ map { { name => sprintf('srv%03d', $_), os => 'Linux', ip_address => "10.0.0.$_" } } 1 .. 120 ],
	cmdb_ci_computer => [ { name => 'desk1' }, { name => 'desk2' } ] });
$sim->reset_counters;
my $run = read_back(name => 'first pull');
in_step('first pull');
is(sql("SELECT count(*) FROM integration_watermarks WHERE NOT complete AND external_table <> 'sys_audit_delete'"), '0', 'all of it is proven to be whole');
is(watermark('sys_audit_delete', 'state'), 'refused', 'the audit may not be read, and that is visible');
is(sql("SELECT count(*) FROM integration_external_servers WHERE class = 'cmdb_ci_linux_server'"), '120', 'servers are there by class');
is(sql("SELECT count(*) FROM integration_external_cis WHERE entity_id IS NOT NULL") > 30, 1, 'what is ours is known as such');
my $relations = sql("SELECT count(*) FROM integration_sync_map WHERE parent_id IS NOT NULL AND external_table = 'cmdb_rel_ci'");
cmp_ok(sql('SELECT count(*) FROM integration_external_relations'), '>=', $relations, 'relationships around ours are there');
is(inbox(), '', 'what we wrote ourselves is no change of theirs');
is($sim->stats->{writes}, 0, 'nothing is written');

# ---- what changed since -----------------------------------------------------------------------------

my @apps = map { ours('application', $_) } 0 .. 4;
$sim->by_hand($jane, PATCH => "cmdb_ci_business_app/$apps[$_]", { short_description => "Edited $_" }) for 0 .. 4;
$sim->by_hand($jane, POST => 'cmdb_ci_business_app', { name => "Theirs $_" }) for 1 .. 5;
$sim->reset_counters;
$run = read_back(name => 'after ten changes');
in_step('after ten changes');
my $stats = $sim->stats;
cmp_ok($stats->{requests}, '<=', 5, 'in few requests: none for a table by itself') or diag($stats->{requests});
cmp_ok(sql("SELECT max(n) FROM (SELECT count(*) AS n FROM pgsync_itsm.lookups GROUP BY target) AS x") || 0, '<=', 2, 'no work is left');
is(inbox(), join("\n", map { "poll|application|Edited $_" } 0 .. 4), 'those of ours that were edited are in the inbox');
like(sql("SELECT summary FROM integration_runs WHERE id = $run->{id}"), qr/10 new or changed; 5 records of ours concerned/, 'and the summary says so');
taken();
read_back(name => 'once more');
is(inbox(), '', 'the overlap brings nothing twice');

# ---- deleted there, the audit out of reach ----------------------------------------------------------

$sim->by_hand($jane, DELETE => "cmdb_ci_business_app/$apps[0]");
read_back(name => 'after a deletion');
ok(exists mirror('cmdb_ci_business_app')->{ $apps[0] }, 'which shows nowhere but in a sweep');
sql("UPDATE integration_watermarks SET swept_at = now() - interval '2 days'");
read_back(name => 'sweep');
in_step('sweep');
like(inbox(), qr/\Asweep\|application\|gone(\nsweep\|consumes\|gone)+\z/, 'what is gone there is in the inbox, with its relationships');
taken();

# changed without a new stamp: found by a sweep as well
my ($desk) = keys %{ there('cmdb_ci_computer') };
sql("UPDATE integration_external_records SET updated_there_at = updated_there_at - interval '1 day', name = 'old', attrs = '{}' WHERE external_id = '$desk'");
sql("UPDATE integration_watermarks SET swept_at = now() - interval '2 days'");
read_back(name => 'a sweep of stamps');
in_step('a sweep of stamps', 'cmdb_ci_computer');

# ---- platforms that lie --------------------------------------------------------------------------------

my $all = sql("SELECT count(*) FROM integration_external_records WHERE target <> 'cmdb_rel_ci'");
for my $fault ({ fault => 'short_list' }, { fault => 'wrong_total', total => 1 }, { fault => 'wrong_total', total => 100000 },
	{ fault => 'short_list', skip => 3 }, { fault => 'status', status => 500, count => 2, skip => 2 })
{
	my $name = join(' ', map { $fault->{$_} } sort keys %$fault);
	$sim->post('/__sim/faults', { endpoint => '/table/', sub => JSON::PP::true(), count => 12, %$fault });
	sql("UPDATE integration_watermarks SET swept_at = now() - interval '2 days'");
	my ($id) = split /\n/, sql("SELECT itsm_subscribe('$city')");
	wait_for_run($node, 'postgres', $id, seconds => 60);
	is(sql("SELECT count(*) FROM integration_external_records WHERE target <> 'cmdb_rel_ci'"), $all, "$name: nothing is taken for gone");
	is(inbox(), '', "$name: nor told");
	$sim->{http}->delete($sim->url . '/__sim/faults');
}
read_back(name => 'in peace');
in_step('in peace');

# the page that was cut short was read again, so that nothing is missing that was added meanwhile
$sim->by_hand($jane, POST => 'cmdb_ci_linux_server', { name => sprintf('new%03d', $_) }) for 1 .. 60;
$sim->post('/__sim/faults', { endpoint => 'cmdb_ci_server', sub => JSON::PP::true(), count => 1, fault => 'short_list' });
read_back(name => 'a page cut short');
is(watermark('cmdb_ci_server', 'complete'), 'f', 'a page that was cut short is not complete');
read_back(name => 'and then');
in_step('nothing is missing', 'cmdb_ci_server');

# ---- small pages, a cluster that dies, rows that are hidden ----------------------------------------------

sql("DELETE FROM integration_watermarks; DELETE FROM integration_external_records");
sql("SELECT itsm_set('$conn', 'read_tables', 'cmdb_ci_server, sys_user')");
sql("SELECT itsm_set('$conn', 'read_page', '50')");
my @hidden = (sort keys %{ there('cmdb_ci_server') })[ 0 .. 59 ];
$sim->post('/__sim/faults', { endpoint => 'cmdb_ci_server', sub => JSON::PP::true(), count => 100, fault => 'delay', seconds => 0.5 });
my ($id) = split /\n/, sql("SELECT itsm_subscribe('$city')");
ok(poll_query($node, 'postgres', "SELECT rows BETWEEN 50 AND 150 FROM integration_watermarks WHERE external_table = 'cmdb_ci_server'"), 'in the middle of a pull');
my $before = sql("SELECT rows FROM integration_watermarks WHERE external_table = 'cmdb_ci_server'");
my $killed = worker_pid($node, 'postgres');
kill 9, $killed;
ok(poll_query($node, 'postgres', "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type LIKE 'pgsync_itsm worker%' AND pid <> $killed)", 't', seconds => 60), 'the cluster is back');
$sim->{http}->delete($sim->url . '/__sim/faults');
is(wait_for_run($node, 'postgres', $id, seconds => 60)->{status}, 'done', 'the run goes on');
in_step('after kill -9', 'cmdb_ci_server', 'sys_user');
cmp_ok(watermark('cmdb_ci_server', 'rows'), '<=', 200 + 50, 'without reading more than one page again') or diag("had $before");
$sim->stop;
sql("SELECT itsm_disconnect('$conn')");

# ---- the audit within reach ---------------------------------------------------------------------------------

begin(roles => 'admin');
sql("SELECT itsm_set('$conn', 'sync_direction', 'both')");
read_back(name => 'an administrator reads');
is(watermark('sys_audit_delete', 'state'), 'done', 'the audit may be read');
my $gone = ours('deployment_profile');
$sim->by_hand($jane, DELETE => "cmdb_ci_service_auto/$gone");
read_back(name => 'after a deletion');
in_step('by the audit', 'cmdb_ci_service_auto');
like(inbox(), qr/^audit\|deployment_profile\|gone$/m, 'the audit tells what is gone');

$sim->stop;
$node->stop;
done_testing();
