# Publishes the sample city to HaloITSM and compares, set against set, what the simulated tenant holds with what the
# portfolio's own tables say; then nothing, then a change, then a removed link.

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

sub refused
{
	my ($node, $run) = @_;
	return $node->safe_psql('postgres', "SELECT coalesce(string_agg(entity_type || ' ' || label || ': ' || coalesce(error_class, '') || ' ' || reason, E'\\n' ORDER BY label), '')
	                                       FROM integration_run_items WHERE run_id = $run AND state = 'dead' AND action <> 'ERROR'");
}

for my $way (
	{ name => '2026' },
	{ name => '2025', switches => { build => '2025', relation_lists => 'replace' } },
	{ name => 'unsure', switches => { relation_item => 'ends', tag_filter => 'prefix', post_status => 200, omit_empty => 'all', unset_dates => '1900', shuffle_unordered => 'true' } })
{
	my $w = $way->{name};
	my $node = new_cluster(name => "halo_publish_$w");
	load_getinsync($node, 'postgres');
	my $halo = start_halo(switches => $way->{switches} // {});
	prepare_halo($halo, users => [qw(alice.ferreira@riverton.example farid.haddad@riverton.example)]);
	my $others = $halo->edit(Asset => [ map { { assettype_id => 120, client_id => 1, inventory_number => "SRV-$_" } } 1 .. 3 ]);
	my $before = remember_halo($halo);
	my $conn = connect_halo($node, 'postgres', $halo, namespace => $city);
	my $run  = publish_and_wait($node, 'postgres', $city);
	my $id   = $run->{id};
	is($run->{status}, 'done', "$w: the run ends") or diag(explain $run);
	note("$w: $run->{requests} requests, $run->{write_requests} writing; $run->{summary}");
	is(refused($node, $id), '', "$w: nothing was refused by the platform");
	halo_equal($node, 'postgres', $city, $halo, $before, aside => put_aside($node, 'postgres', $id),
		name => "$w: the platform has what the portfolio wants there, and nothing else");
	is($node->safe_psql('postgres', "SELECT count(*) FROM integration_sync_map WHERE not_taken IS NOT NULL"), 0, "$w: all of it was taken");
	is_deeply([ sort map { $_->{inventory_number} } grep { $_->{inventory_number} =~ /^APP-/ } @{ $halo->dump('Asset')->{Asset} } ],
		[ sort split /\n/, $node->safe_psql('postgres', "SELECT external_number FROM integration_sync_map WHERE entity_type = 'application'") ], "$w: tags are in the map");

	# what must never leave
	my $everything = join ' ', map { JSON::PP->new->canonical->encode($_) } @{ $halo->requests(n => 100000) };
	my @bundles = split /\n/, $node->safe_psql('postgres', "SELECT id FROM deployment_profiles WHERE dp_type = 'cost_bundle'");
	is(scalar(grep { index($everything, $_) >= 0 } @bundles), 0, "$w: no cost bundle was ever sent");
	my @chargebacks = split /\n/, $node->safe_psql('postgres', "SELECT DISTINCT c.contract_reference FROM product_contracts c JOIN organizations o ON o.id = c.vendor_org_id
	                                                             WHERE o.is_internal AND c.contract_reference IS NOT NULL");
	ok(@chargebacks > 0, "$w: the sample has a chargeback contract");
	is(scalar(grep { my $r = $_; grep { ($_->{ref} // '') eq $r } @{ $halo->dump('SupplierContract')->{SupplierContract} } } @chargebacks), 0, "$w: no chargeback contract");
	is(scalar(grep { $_->{status} == 429 } @{ $halo->requests(n => 100000) }), 0, "$w: the rate limit was never met");

	# again: nothing to write
	$halo->reset_counters;
	my $logged = $node->safe_psql('postgres', 'SELECT count(*) FROM integration_sync_log');
	my $again = publish_and_wait($node, 'postgres', $city);
	is($again->{status}, 'done', "$w: published again");
	is($halo->stats->{writes}, 0, "$w: the second publish writes nothing");
	note("$w: the second publish makes $again->{requests} requests");
	is($node->safe_psql('postgres', 'SELECT count(*) FROM integration_sync_log'), $logged, "$w: and logs no write");

	is($node->safe_psql('postgres', "SELECT entity_type, label, field, kind, base, ours, theirs FROM itsm_drift('$city')"), '', "$w: the two sides do not differ");

	# a change: one record, some fields; a link that goes, one that comes
	my ($profile, $service) = split /\|/, $node->safe_psql('postgres',
		"SELECT parent_id, child_id FROM integration_sync_map WHERE connection_id = '$conn' AND entity_type = 'depends_on' ORDER BY native_key LIMIT 1");
	my ($user, $product) = split /\|/, $node->safe_psql('postgres',
		"SELECT m.parent_id, m.child_id FROM integration_sync_map m JOIN deployment_profile_software_products l
		     ON l.deployment_profile_id = m.parent_id AND l.software_product_id = m.child_id AND l.contract_reference IS NULL
		  WHERE m.connection_id = '$conn' AND m.entity_type = 'runs_on' ORDER BY m.native_key LIMIT 1");
	$node->safe_psql('postgres', "UPDATE applications SET short_description = 'another one', description = '' WHERE id =
		(SELECT entity_id FROM integration_sync_map WHERE connection_id = '$conn' AND entity_type = 'application' AND last_agreed ->> 'notes' <> '' ORDER BY native_key LIMIT 1)");
	$node->safe_psql('postgres', "DELETE FROM deployment_profile_it_services WHERE deployment_profile_id = '$profile' AND it_service_id = '$service'");
	$node->safe_psql('postgres', "DELETE FROM deployment_profile_software_products WHERE deployment_profile_id = '$user' AND software_product_id = '$product'");
	# somebody relates our profile to a server of theirs
	my $asset = $node->safe_psql('postgres', "SELECT split_part(external_id, '/', 2) FROM integration_sync_map WHERE connection_id = '$conn' AND entity_type = 'deployment_profile' AND entity_id = '$user'");
	$halo->load({ AssetRelation => [ { parent_id => $asset + 0, child_id => $others->{Asset}[0]{id}, relationship_id => 3 } ] });
	$halo->reset_counters;
	my $delta = publish_and_wait($node, 'postgres', $city);
	is($delta->{status}, 'done', "$w: a delta");
	is(refused($node, $delta->{id}), '', "$w: nothing of it was refused");
	is($node->safe_psql('postgres', "SELECT string_agg(action || ' ' || entity_type, ', ' ORDER BY action, entity_type) FROM integration_run_items WHERE run_id = $delta->{id} AND state = 'done' AND action <> 'MATCH'"),
		'CLEAR application, DELETE depends_on, DELETE runs_on, UPDATE application', "$w: what changed, and nothing else");
	ok($halo->stats->{writes} <= 7, "$w: few writes") or diag(explain $halo->by_resource);
	my @theirs = grep { $_->{child_id} == $others->{Asset}[0]{id} } @{ $halo->dump('AssetRelation')->{AssetRelation} };
	is(scalar(@theirs), 1, "$w: somebody else's relation is not lost");
	is($theirs[0]{relationship_id}, 3, "$w: nor its kind");
	$halo->edit(Asset => [ { id => $asset + 0, delete_child_assets => [ { id => $others->{Asset}[0]{id} } ] } ]) if $w eq '2026';
	halo_equal($node, 'postgres', $city, $halo, $before, aside => put_aside($node, 'postgres', $delta->{id}), name => "$w: both sides are equal again") if $w eq '2026';
	$halo->stop;
	$node->stop;
}

done_testing();
