# HaloITSM: 300 applications with two profiles each, within the rate window without one 429; calls counted and explained
# beforehand; a preview that is applied; a run that is cancelled and goes on.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PgsyncItsm;
use PgsyncItsmHalo;
use PgsyncItsmHaloConnect;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = new_cluster(name => 'halo_volume');
load_getinsync($node, 'postgres', generate => { applications => 300 });
my $ns = namespace_of($node, 'postgres');
# a window as the platform's, thirty times as fast
my $halo = start_halo(switches => { rate_requests => 500, rate_seconds => 6 });
prepare_halo($halo);
my $conn = connect_halo($node, 'postgres', $halo, namespace => $ns, rate_limit => '500/6');

my $preview = $node->safe_psql('postgres', "SELECT itsm_preview('$ns')");
my $run = wait_for_run($node, 'postgres', $preview);
is($run->{status}, 'planned', 'a preview');
my $expected = $run->{expected};
note($node->safe_psql('postgres', "SELECT string_agg(line, E'\\n') FROM itsm_explain($preview) AS line"));
$halo->reset_counters;
my $begin = time();
$node->safe_psql('postgres', "SELECT itsm_apply($preview)");
$run = wait_for_run($node, 'postgres', $preview, seconds => 600, states => [qw(done failed cancelled)]);
my $took = time() - $begin;
my $stats = $halo->stats;
is($run->{status}, 'done', 'which is applied') or diag(explain $run);
is($node->safe_psql('postgres', "SELECT count(*) FROM integration_run_items WHERE run_id = $preview AND state NOT IN ('done', 'unchanged', 'held', 'skipped') AND action <> 'ERROR'"), 0, 'all of it');
is($stats->{by_status}{429} // 0, 0, 'without one 429');
my $calls = $stats->{requests} - ($stats->{by_resource}{token}{POST} // 0);
note(sprintf "%d calls in %.1f s, most in a window %d, in flight %d", $calls, $took, $stats->{rate}{most}, $stats->{max_in_flight});
cmp_ok($stats->{rate}{most}, '<=', 500, 'within the window');
cmp_ok(abs($calls - $expected->{calls}), '<=', $expected->{calls} * 0.05, "as many calls as were explained: $calls of $expected->{calls}");
is($node->safe_psql('postgres', "SELECT requests - side_requests - (expected #>> '{before,requests}')::bigint + (expected #>> '{before,side_requests}')::bigint FROM integration_runs WHERE id = $preview"), $calls, 'and each is counted');
is($node->safe_psql('postgres', "SELECT count(*) FILTER (WHERE entity_type = 'application') || ' ' || count(*) FILTER (WHERE entity_type = 'deployment_profile') FROM integration_sync_map"), '300 600', '300 applications and 600 profiles are there');

# again, by another worker, which knows how much of the window is used
$halo->reset_counters;
my $again = publish_and_wait($node, 'postgres', $ns);
is($halo->stats->{writes}, 0, 'nothing is left to write');
note("$again->{requests} calls to find that out");

# cancelled in the middle, and resumed
$node->safe_psql('postgres', "UPDATE applications SET short_description = 'changed ' || app_id");
my ($id) = publish_runs($node, 'postgres', $ns);
ok(poll_until(sub { $node->safe_psql('postgres', "SELECT count(*) > 20 FROM integration_run_items WHERE run_id = $id AND state = 'done'") eq 't' }), 'a run is under way');
$node->safe_psql('postgres', "SELECT itsm_cancel($id)");
is(wait_for_run($node, 'postgres', $id)->{status}, 'cancelled', 'it is cancelled');
my $done = $node->safe_psql('postgres', "SELECT count(*) FROM integration_run_items WHERE run_id = $id AND state = 'done'");
cmp_ok($done, '<', 300, "in the middle: $done of 300");
my ($next) = publish_runs($node, 'postgres', $ns);
is(wait_for_run($node, 'postgres', $next, seconds => 300)->{status}, 'done', 'the next one does the rest');
is($node->safe_psql('postgres', "SELECT count(*) FROM integration_run_items WHERE run_id = $next AND action = 'UPDATE' AND state = 'done'"), 300 - $done, 'and no more than that');
is($halo->stats->{by_status}{429} // 0, 0, 'without one 429');
$halo->stop;
$node->stop;
done_testing();
