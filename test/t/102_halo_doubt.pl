# HaloITSM: answers that get lost, requests that break, pages that are cut short: nothing is made twice, nothing is lost.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PgsyncItsm;
use PgsyncItsmCompare;
use PgsyncItsmHalo;
use PgsyncItsmHaloCompare;
use PgsyncItsmHaloConnect;
use PostgreSQL::Test::Utils;
use Test::More;

my $city = '11111111-1111-4111-8111-111111111111';
my $fast = "pgsync_itsm.retry_delay = '20ms'\npgsync_itsm.retry_delay_max = '200ms'\n";
my $node = new_cluster(name => 'halo_doubt', conf => $fast);

# One tenant and one portfolio after the other in one cluster, each in a database of its own.
my $n = 0;
sub stage
{
	my ($what, $prepare, %settings) = @_;
	my $db = 'doubt' . ++$n;
	$node->safe_psql('postgres', "CREATE DATABASE $db");
	$node->append_conf('postgresql.conf', "pgsync_itsm.databases = '$db'\n");
	$node->reload;
	load_getinsync($node, $db);
	my $halo = start_halo(switches => { rate_requests => 100000 });
	prepare_halo($halo);
	my $before = remember_halo($halo);
	my $conn = connect_halo($node, $db, $halo, namespace => $city, rate_limit => '1000/1', max_attempts => 20, breaker_failures => 50, %settings);
	$prepare->($halo);
	my $run = eval { publish_and_wait($node, $db, $city, seconds => 90) };
	if (!$run)
	{
		diag($node->safe_psql($db, 'SELECT paused_at, pause_class, pause_reason, last_error FROM integration_connections'));
		BAIL_OUT("$what: the run does not end: $@");
	}
	is($run->{status}, 'done', "$what: the run ends") or diag(explain $run);
	my $dead = $node->safe_psql($db, "SELECT coalesce(string_agg(entity_type || ' ' || label || ': ' || coalesce(error_class, '') || ' ' || coalesce(reason, ''), E'\\n'), '')
	                                    FROM integration_run_items WHERE run_id = $run->{id} AND state = 'dead' AND action <> 'ERROR'");
	is($dead, '', "$what: nothing is dead");
	my $fired = $halo->stats->{faults_fired};
	$halo->clear_faults;
	halo_equal($node, $db, $city, $halo, $before, aside => put_aside($node, $db, $run->{id}), name => "$what: everything is there, once");
	$halo->reset_counters;
	publish_and_wait($node, $db, $city);
	is($halo->stats->{writes}, 0, "$what: nothing is left to write");
	my $ours = $node->safe_psql($db, "SELECT count(*) FROM integration_sync_map WHERE connection_id = '$conn' AND NOT created_by_us");
	is($ours, 0, "$what: all of it is known to be ours");
	$halo->stop;
	return $fired;
}

# more than 200 of each kind of trouble, at random points
my $fired = stage('the answer is lost after the deed', sub {
	$_[0]->fault(endpoint => 'api/', method => 'POST', fault => 'close_after_commit', count => -1, probability => 0.5);
});
ok(($fired->{close_after_commit} // 0) >= 60, 'answers were lost ' . ($fired->{close_after_commit} // 0) . ' times');
$fired = stage('the answer is cut, or garbage', sub {
	my ($halo) = @_;
	$halo->fault(endpoint => 'api/', method => 'POST', fault => 'truncated_body', count => -1, probability => 0.25);
	$halo->fault(endpoint => 'api/', method => 'POST', fault => 'garbage_body', count => -1, probability => 0.25);
});
ok(($fired->{truncated_body} // 0) + ($fired->{garbage_body} // 0) >= 50, 'answers were spoilt');
stage('everything fails now and then', sub {
	my ($halo) = @_;
	$halo->fault(endpoint => 'api/', fault => 'status', status => $_, count => -1, probability => 0.04) for 500, 502, 503, 504, 429;
	$halo->fault(endpoint => 'api/', fault => 'close_before_reply', count => -1, probability => 0.05);
	$halo->fault(endpoint => 'api/', fault => 'html', count => -1, probability => 0.03);
	$halo->fault(endpoint => 'api/', fault => 'token_expiry', count => 4, probability => 0.02);
	$halo->fault(endpoint => 'api/', method => 'POST', fault => 'close_after_commit', count => -1, probability => 0.05);
	# nothing tells of a bare list that it was cut short
	$halo->fault(endpoint => "api/$_\$", method => 'GET', fault => 'short_list', count => -1, probability => 0.2)
	  for qw(Asset Service Supplier SupplierContract Users);
});
$node->stop;
done_testing();
