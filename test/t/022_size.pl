# Counts: the worked example of the integration design (300 applications, 600 profiles, 6 services, 3 products;
# 9,600 calls there) has to fit into fewer than 25 HTTP requests with ire, look-ups and token included; with instance
# it leaves the same content.  Both are compared, set against set, with the portfolio.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PgsyncItsm;
use PgsyncItsmCompare;
use PostgreSQL::Test::Utils;
use Test::More;

for my $strategy (qw(ire instance))
{
	my $node = new_cluster(name => "size_$strategy");
	my $sim  = start_simulator();
	load_getinsync($node, 'postgres', generate => { applications => 300, profiles => 2, services => 6, products => 3 });
	load_platform($sim, $node, 'postgres');
	my $ns = namespace_of($node, 'postgres');
	my $before = remember($sim);
	connect_and_activate($node, 'postgres', $sim, namespace => $ns, write_api => $strategy, max_concurrency => $strategy eq 'ire' ? 2 : 16);
	$sim->reset_counters;
	my $run = publish_and_wait($node, "postgres", $ns, seconds => 400);
	my $stats = $sim->stats;
	is($run->{status}, 'done', "$strategy: done") or diag($run->{error_message} // '');
	is($run->{dead}, 0, "$strategy: nothing dead");
	is($run->{held}, 0, "$strategy: nothing held");
	note("$strategy: $stats->{requests} HTTP requests, $stats->{writes} writing, ", $run->{subrequests}, " inside batches");
	diag("$strategy: $stats->{requests} HTTP requests for 300 applications ($run->{subrequests} more inside batches)");
	cmp_ok($stats->{requests}, '<', 25, "$strategy: fewer than 25 HTTP requests") if $strategy eq 'ire';
	is($run->{requests}, $stats->{requests}, "$strategy: the run counts what the simulator counts");

	both_sides_equal($node, 'postgres', $ns, $sim, $before, name => "$strategy: the platform has what the portfolio wants there");
	my $records = $stats->{records};
	is($records->{cmdb_ci_business_app}, 300, "$strategy: 300 business applications");
	is($records->{cmdb_ci_service_auto}, 600, "$strategy: 600 application services");
	is($records->{cmdb_rel_ci}, 600 + 3600 + 1800, "$strategy: 6,000 relationships");
	$sim->stop;
	$node->stop;
}
done_testing();
