# HaloITSM: what is there before us.  Nothing is taken over in silence; a match run proposes, a person decides; what was
# deleted there is not made again; what is deleted here is retired; licences instead of assets; relations without kinds.

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
my $node = new_cluster(name => 'halo_match');
load_getinsync($node, 'postgres');
my $halo = start_halo();
my $made = prepare_halo($halo);
my $conn = connect_halo($node, 'postgres', $halo, namespace => $city);
my $ids = JSON::PP::decode_json($node->safe_psql('postgres', "SELECT settings ->> 'halo_ids' FROM integration_connections WHERE id = '$conn'"));
my ($app, $app_name) = split /\|/, $node->safe_psql('postgres',
	"SELECT a.id, a.name FROM applications a JOIN workspaces w ON w.id = a.workspace_id WHERE w.namespace_id = '$city' AND a.management_classification = 'apm' AND a.operational_status = 'operational' AND a.name ~ '^[A-Za-z0-9 ]+\$' ORDER BY a.name LIMIT 1");
my ($svc, $svc_name) = split /\|/, $node->safe_psql('postgres',
	"SELECT id, name FROM it_services s WHERE namespace_id = '$city' AND NOT is_internal_only AND lifecycle_state = 'active' AND (SELECT count(*) FROM it_services t WHERE lower(t.name) = lower(s.name)) = 1 ORDER BY name LIMIT 1");
my $theirs = $halo->edit(
	Asset => [ { assettype_id => $ids->{'type business_application'}, client_id => $made->{client}, inventory_number => 'OLD-1', notes => 'theirs',
			fields => [ { id => $ids->{'name business_application'}, value => uc $app_name } ] } ],
	Service => [ { name => "$svc_name ", summary => 'theirs', service_category_id => 1, showinusercatalog => JSON::PP::true, showintechcatalog => JSON::PP::true } ]);
my ($asset_id, $service_id) = ($theirs->{Asset}[0]{id}, $theirs->{Service}[0]{id});

# a match run writes nothing and proposes them
$halo->reset_counters;
my $match = wait_for_run($node, 'postgres', $node->safe_psql('postgres', "SELECT itsm_match('$city')"));
is($match->{status}, 'done', 'a match run') or diag(explain $match);
is($halo->stats->{writes}, 0, 'writes nothing there');
is($node->safe_psql('postgres', "SELECT external_id || ' ' || reason FROM integration_matches WHERE entity_id = '$app' AND decision = 'proposed'"), "asset/$asset_id exact name", 'an application is proposed by its name');
is($node->safe_psql('postgres', "SELECT external_id FROM integration_matches WHERE entity_id = '$svc' AND decision = 'proposed'"), "service/$service_id", 'a service, too');

# nobody has decided: both are held
my $run = publish_and_wait($node, 'postgres', $city);
is($run->{status}, 'done', 'a publish');
is($node->safe_psql('postgres', "SELECT string_agg(action || ' ' || state, ', ') FROM integration_run_items WHERE run_id = $run->{id} AND entity_id IN ('$app', '$svc') AND parent_id IS NULL"),
	'MISMATCH held, MISMATCH held', 'holds what is there and not ours');
is((grep { $_->{id} == $asset_id } @{ $halo->dump('Asset')->{Asset} })[0]{notes}, 'theirs', 'and does not touch it');

# decided: theirs is ours from now on, by each field's authority
$node->safe_psql('postgres', "SELECT itsm_accept_match(id) FROM integration_matches WHERE entity_id IN ('$app', '$svc') AND decision = 'proposed'");
like($node->safe_psql('postgres', "SELECT external_url FROM integration_sync_map WHERE entity_id = '$app'"), qr{/halo/api/Asset/$asset_id$}, 'the map says where it is');
$run = publish_and_wait($node, 'postgres', $city);
my ($now) = grep { $_->{id} == $asset_id } @{ $halo->shown('Asset') };
is($now->{key_field}, $app_name, 'an accepted application gets our name');
is($now->{inventory_number}, 'OLD-1', 'and keeps its tag');
is($now->{notes}, 'theirs', 'and its notes');
my ($service) = grep { $_->{id} == $service_id } @{ $halo->dump('Service')->{Service} };
is($service->{summary}, 'theirs', 'a matched service is referenced, not written');
is(scalar(grep { lc($_->{name} =~ s/ +$//r) eq lc $svc_name } @{ $halo->dump('Service')->{Service} }), 1, 'and not made twice');
cmp_ok(scalar(@{ $now->{child_assets} }), '>', 0, 'its profiles are its children');
$halo->reset_counters;
publish_and_wait($node, 'postgres', $city);
is($halo->stats->{writes}, 0, 'again: nothing to write');

# deleted there: held, never made again unasked
my ($gone, $gone_id) = split /\|/, $node->safe_psql('postgres', "SELECT entity_id, split_part(external_id, '/', 2) FROM integration_sync_map WHERE entity_type = 'application' AND created_by_us ORDER BY native_key LIMIT 1");
$halo->remove(Asset => [ $gone_id + 0 ]);
$node->safe_psql('postgres', "UPDATE applications SET short_description = 'once more' WHERE id = '$gone'");
$run = publish_and_wait($node, 'postgres', $city);
is($node->safe_psql('postgres', "SELECT action || ' ' || reason FROM integration_run_items WHERE run_id = $run->{id} AND entity_id = '$gone' AND parent_id IS NULL"), 'MISMATCH deleted there', 'what was deleted there is held');

# edited there: held where an update would undo it
my ($edited, $edited_id) = split /\|/, $node->safe_psql('postgres', "SELECT entity_id, split_part(external_id, '/', 2) FROM integration_sync_map WHERE entity_type = 'application' AND created_by_us AND entity_id <> '$gone' ORDER BY native_key LIMIT 1");
$halo->edit(Asset => [ { id => $edited_id + 0, fields => [ { id => $ids->{'field Short description'}, value => 'edited at the screen' } ] } ]);
$node->safe_psql('postgres', "UPDATE applications SET short_description = 'edited here' WHERE id = '$edited'");
$run = publish_and_wait($node, 'postgres', $city);
like($node->safe_psql('postgres', "SELECT action || ' ' || reason FROM integration_run_items WHERE run_id = $run->{id} AND entity_id = '$edited' AND parent_id IS NULL"),
	qr/^MISMATCH edited there.*field_short_description \(there "edited at the screen"\)/, 'what was edited there is held');

# deleted here: retired there
my ($left, $left_id) = split /\|/, $node->safe_psql('postgres', "SELECT entity_id, split_part(external_id, '/', 2) FROM integration_sync_map WHERE entity_type = 'deployment_profile' AND created_by_us ORDER BY native_key DESC LIMIT 1");
# only a connection that follows the changes sees a deletion
my $settled = "SELECT NOT EXISTS (SELECT FROM integration_queue) AND NOT EXISTS (SELECT FROM integration_runs WHERE status IN ('queued', 'planning', 'running'))
	AND (SELECT full_plan_after IS NULL FROM integration_connections)";
$node->safe_psql('postgres', "UPDATE integration_connections SET sync_schedule = 'on_change'");
ok(poll_query($node, 'postgres', $settled), 'the changes are followed');
my $last = $node->safe_psql('postgres', 'SELECT max(id) FROM integration_runs');
$node->safe_psql('postgres', "DELETE FROM deployment_profiles WHERE id = '$left'");
ok(poll_query($node, 'postgres', "SELECT max(id) > $last FROM integration_runs"), 'the deletion is seen');
ok(poll_query($node, 'postgres', $settled), 'and sent');
is($node->safe_psql('postgres', "SELECT DISTINCT action || ' ' || state || ' ' || reason FROM integration_run_items WHERE run_id > $last AND entity_id = '$left'"),
	'UPDATE done deleted here: retired there', 'as a retirement');
my ($retired) = grep { $_->{id} == $left_id } @{ $halo->dump('Asset')->{Asset} };
ok($retired->{inactive}, 'what was deleted here is hidden there');
is($retired->{status_id}, 23, 'with the status Retired');
$node->stop;
$halo->stop;

# ---- licences instead of assets, and relations without kinds --------------------------------------

$node = new_cluster(name => 'halo_licences');
load_getinsync($node, 'postgres');
$halo = start_halo();
prepare_halo($halo);
$halo->load({ RelationKind => [ { id => 1, name => 'something else' }, map { { id => $_, name => "kind $_" } } 2 .. 20 ] });
$conn = connect_halo($node, 'postgres', $halo, namespace => $city, software_as => 'licence', relation_writes => 'add');
$run = publish_and_wait($node, 'postgres', $city);
is($run->{status}, 'done', 'licences: published');
is($node->safe_psql('postgres', "SELECT coalesce(string_agg(label || ': ' || reason, E'\\n'), '') FROM integration_run_items WHERE run_id = $run->{id} AND state = 'dead' AND action <> 'ERROR'"), '', 'licences: nothing was refused');
my $wanted = $node->safe_psql('postgres', "SELECT count(*) FROM integration_sync_map WHERE entity_type = 'software_package' AND external_table = 'software_licence'");
my @licences = @{ $halo->dump('SoftwareLicence')->{SoftwareLicence} };
is(scalar(@licences), $wanted, "licences: $wanted of them");
cmp_ok($wanted, '>', 5, 'licences: not none');
is(scalar(@{ $halo->dump('LicenceAsset')->{LicenceAsset} }), $node->safe_psql('postgres', "SELECT count(*) FROM integration_sync_map WHERE entity_type = 'runs_on'"), 'licences: linked to what runs on them');
is(scalar(grep { ($_->{relationship_id} // 0) != 0 } @{ $halo->dump('AssetRelation')->{AssetRelation} }), 0, 'relations have no kind where kinds are not all there');
$halo->reset_counters;
publish_and_wait($node, 'postgres', $city);
is($halo->stats->{writes}, 0, 'licences: again, nothing to write');
$halo->stop;
$node->stop;
done_testing();
