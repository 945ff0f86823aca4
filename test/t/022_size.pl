# Counts: the worked example of the integration design (300 applications, 600 profiles, 6 services, 3 products;
# 9,600 calls there) has to fit into 60 HTTP requests with ire; with instance it leaves the same content.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PgsyncItsm;
use PostgreSQL::Test::Utils;
use Test::More;

my %content;
for my $strategy (qw(ire instance))
{
	my $node = new_cluster(name => "size_$strategy");
	my $sim  = start_simulator();
	load_getinsync($node, 'postgres', generate => { applications => 300, profiles => 2, services => 6, products => 3 });
	load_platform($sim, $node, 'postgres');
	my $ns = namespace_of($node, 'postgres');
	connect_and_activate($node, 'postgres', $sim, namespace => $ns, write_api => $strategy, max_concurrency => $strategy eq 'ire' ? 2 : 16);
	$sim->reset_counters;
	my $run = publish_and_wait($node, "postgres", $ns, seconds => 400);
	my $stats = $sim->stats;
	is($run->{status}, 'done', "$strategy: done") or diag($run->{error_message} // '');
	is($run->{dead}, 0, "$strategy: nothing dead");
	is($run->{held}, 0, "$strategy: nothing held");
	note("$strategy: $stats->{requests} HTTP requests, $stats->{writes} writing, ", $run->{subrequests}, " inside batches");
	diag("$strategy: $stats->{requests} HTTP requests for 300 applications ($run->{subrequests} more inside batches)");
	cmp_ok($stats->{requests}, '<', 60, "$strategy: fewer than 60 HTTP requests") if $strategy eq 'ire';
	is($run->{requests}, $stats->{requests}, "$strategy: the run counts what the simulator counts");

	my @tables = qw(cmdb_ci_business_app cmdb_ci_service_auto service_offering cmdb_ci_spkg);
	my $all = $sim->dump(@tables, qw(cmdb_rel_ci cmdb_rel_type));
	my %name = map { $_->{sys_id} => $_->{name} } @{ $all->{cmdb_rel_type} };
	my %id = map { $_->{sys_id} => $_->{name} } map { @{ $all->{$_} } } @tables;
	$content{$strategy} = {
		(map { my $t = $_; ($t => [ sort map { $_->{name} } grep { ($_->{correlation_id} // '') ne '' } @{ $all->{$t} } ]) } @tables),
		relations => [ sort map { "$id{$_->{parent}} > $id{$_->{child}} : $name{$_->{type}}" } @{ $all->{cmdb_rel_ci} } ] };
	is(scalar @{ $content{$strategy}{cmdb_ci_business_app} }, 300, "$strategy: 300 business applications");
	is(scalar @{ $content{$strategy}{cmdb_ci_service_auto} }, 600, "$strategy: 600 application services");
	is(scalar @{ $content{$strategy}{relations} }, 600 + 3600 + 1800, "$strategy: 6,000 relationships");
	$sim->stop;
	$node->stop;
}
is_deeply($content{instance}, $content{ire}, 'both strategies leave the same content');
done_testing();
