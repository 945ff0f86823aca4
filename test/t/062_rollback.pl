# A publish is rolled back over HTTP: the platform is as it was before, but for what somebody edited there meanwhile;
# twice does nothing; retiring instead of deleting; an update undone field by field; a removed relationship made again;
# the worker killed in the middle; one CI a call; and a publish afterwards, without duplicates.
#
# Not compared: columns that begin with sys_ (stamps, counters), when a CI was last discovered, and the platform's own
# bookkeeping: sys_object_source (it keeps the native keys of deleted CIs) and sys_audit_delete.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PgsyncItsm;
use HTTP::Tiny;
use JSON::PP;
use MIME::Base64 qw(encode_base64);
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $city = '11111111-1111-4111-8111-111111111111';
my %bookkeeping = map { $_ => 1 } qw(sys_object_source sys_audit_delete);

sub platform
{
	my (%opt) = @_;
	my $sim = start_simulator(roles => $opt{roles} // 'itil,contract_manager,asset,sn_cmdb_admin',
		options => [ '--user', 'jane.doe:hers:itil,contract_manager,asset', '--switch', 'choice_cache_seconds=0', @{ $opt{options} // [] } ]);
	# in this instance the role itil may delete companies
	$sim->load({ acl => [ { table => 'core_company', operation => 'delete', roles => ['itil'] } ] }) unless $opt{closed};
	load_platform($sim);
	return $sim;
}

sub city
{
	my ($node, $sim, %settings) = @_;
	load_getinsync($node, 'postgres');
	return connect_and_activate($node, 'postgres', $sim, namespace => $city, delete_roles => 'itil', %settings);
}

# What somebody with an account of her own does there.
sub by_hand
{
	my ($sim, $method, $path, $body) = @_;
	my $answer = HTTP::Tiny->new(proxy => undef, http_proxy => undef)->request($method, $sim->url . "/api/now/table/$path",
		{ headers => { 'authorization' => 'Basic ' . encode_base64('jane.doe:hers', ''), 'accept' => 'application/json', 'content-type' => 'application/json' },
			content => $body ? encode_json($body) : '' });
	die "$method $path: $answer->{status} $answer->{content}" unless $answer->{success};
	return $answer->{content} ? decode_json($answer->{content})->{result} : undef;
}

# Everything that is there, without system columns: table/sys_id => JSON.
sub picture
{
	my ($sim) = @_;
	my %picture;
	my @tables = grep { !$bookkeeping{$_} } sort keys %{ $sim->stats->{records} };
	my $dump = $sim->dump(@tables);
	for my $table (sort keys %$dump)
	{
		for my $row (@{ $dump->{$table} })
		{
			my %kept = map { $_ => $row->{$_} } grep { !/^sys_/ && $_ ne 'last_discovered' && $_ ne 'first_discovered' && $row->{$_} ne '' } keys %$row;
			$picture{"$table/$row->{sys_id}"} = JSON::PP->new->canonical->encode(\%kept);
		}
	}
	return \%picture;
}

# What differs, as a list of lines.
sub differences
{
	my ($before, $after) = @_;
	return join "\n", map { ($before->{$_} // '-') eq ($after->{$_} // '-') ? () : "$_: " . ($before->{$_} // '-') . ' => ' . ($after->{$_} // '-') }
	  sort keys %{ { %$before, %$after } };
}

# itsm_rollback() to the planned run: its row; undef if there was nothing to undo.
sub plan_rollback
{
	my ($node, $args) = @_;
	my $last = $node->safe_psql('postgres', 'SELECT coalesce(max(id), 0) FROM integration_runs');
	$node->safe_psql('postgres', "SELECT count(*) FROM itsm_rollback($args)");
	my $run = $node->safe_psql('postgres', "SELECT id FROM integration_runs WHERE id > $last AND kind = 'rollback'");
	return $run ? wait_for_run($node, 'postgres', $run) : undef;
}

sub apply
{
	my ($node, $run) = @_;
	$node->safe_psql('postgres', "SELECT itsm_apply($run->{id})");
	my $row = wait_for_run($node, 'postgres', $run->{id}, states => [qw(done failed cancelled)]);
	is($row->{status}, 'done', 'it ends') or diag($row->{error_message});
	return $row;
}

sub lines
{
	my ($node, $sql) = @_;
	return $node->safe_psql('postgres', $sql);
}

sub not_done
{
	my ($node, $run) = @_;
	return lines($node, "SELECT entity_type, label, action, state, reason FROM integration_run_items WHERE run_id = $run->{id} AND state NOT IN ('done', 'unchanged') ORDER BY id");
}

# ---- by deletion, in bulk ------------------------------------------------------------------------

my $node = new_cluster();
my $sim  = platform();
my $conn = city($node, $sim);
my $before = picture($sim);
my $publish = publish_and_wait($node, 'postgres', $city);
is($publish->{status}, 'done', 'published');
cmp_ok($publish->{done}, '>', 60, 'all of the sample');

# two that nothing else depends on for being deleted: an application and a contract
my ($app) = split /\n/, lines($node, "SELECT external_id FROM integration_sync_map WHERE entity_type = 'application' AND created_by_us AND coalesce(last_agreed ->> 'vendor', '') = '' AND last_agreed ->> 'short_description' <> '' ORDER BY native_key LIMIT 1");
my ($table, $service) = split /\|/, lines($node, "SELECT external_table, external_id FROM integration_sync_map WHERE entity_type = 'deployment_profile' AND created_by_us ORDER BY native_key LIMIT 1");
by_hand($sim, 'PATCH', "cmdb_ci_business_app/$app", { short_description => 'Ours, from today on' });
by_hand($sim, 'PATCH', "$table/$service", { comments => 'Do not touch' });
my $edited = picture($sim);

my $run = plan_rollback($node, "$publish->{id}, method => 'delete'");
is($run->{status}, 'planned', 'a rollback is planned and waits');
like($run->{summary}, qr/^would delete \d+, retire 0, restore 0, remove \d+ relationships; 2 changed there since and stay/, 'its summary');
note($run->{summary});
is(lines($node, "SELECT action, state, external_id, reason FROM integration_run_items WHERE run_id = $run->{id} AND state = 'held' ORDER BY ord, id"),
	"DELETE|held|$service|changed there since by jane.doe\nDELETE|held|$app|changed there since: short_description (by jane.doe)", 'the two are held, and nothing else');
is_deeply(picture($sim), $edited, 'nothing was done yet');
apply($node, $run);
is(not_done($node, $run) =~ s/\n/\n/gr, lines($node, "SELECT entity_type, label, action, state, reason FROM integration_run_items WHERE run_id = $run->{id} AND state IN ('held', 'skipped') ORDER BY id"), 'all of it went through');
my $after = picture($sim);
my %but = map { $_ => $after->{$_} } grep { m{/(\Q$app\E|\Q$service\E)$} } keys %$after;
is(scalar(keys %but), 2, 'the two are there');
is($but{$_}, $edited->{$_}, 'as they were edited') for sort keys %but;
is(differences($before, { map { $_ => $after->{$_} } grep { !$but{$_} } keys %$after }), '', 'everything else is as it was before the publish');
is(lines($node, "SELECT count(*) FROM integration_sync_log WHERE run_id = $run->{id} AND operation = 'delete' AND status = 'success'"),
	lines($node, "SELECT count(*) FROM integration_run_items WHERE run_id = $run->{id} AND state IN ('done', 'unchanged') AND action = 'DELETE'"), 'each deletion is logged');
is(lines($node, "SELECT count(*) FROM integration_sync_log WHERE run_id = $run->{id} AND operation = 'delete' AND entity_type = 'application' AND coalesce(request_payload ->> 'name', '') = ''"), '0', 'with what was there');

# twice does nothing
my $writes = $sim->stats->{writes};
my $second = plan_rollback($node, "$publish->{id}, method => 'delete'");
is(lines($node, "SELECT count(*) FROM integration_run_items WHERE run_id = $second->{id} AND state <> 'held' AND state <> 'skipped'"), '0', 'a second rollback has nothing to do but the two');
apply($node, $second);
is($sim->stats->{writes}, $writes, 'and writes nothing');

# a publish afterwards
my $again = publish_and_wait($node, 'postgres', $city);
is($again->{status}, 'done', 'published again');
note(lines($node, "SELECT run_id, entity_type, action, state, count(*), min(reason) FROM integration_run_items WHERE run_id IN ($publish->{id}, $again->{id}) GROUP BY 1,2,3,4 ORDER BY 2,3,4,1"));
is($again->{dead}, $publish->{dead}, 'as well as before') or diag(lines($node, "SELECT entity_type, label, error_class, reason FROM integration_run_items WHERE run_id = $again->{id} AND state = 'dead'"));
my $stats = $sim->stats;
is_deeply([ $stats->{duplicates}{correlation_id}, $stats->{duplicates}{relations} ], [ $sim->stats->{duplicates}{correlation_id}, $stats->{duplicates}{relations} ], 'counted');
is(JSON::PP->new->canonical->encode($stats->{duplicates}{relations}) =~ /"count":0|^\[\]|"total":0/ ? 1 : 0, 1, 'no relationship is there twice') or diag(explain($stats->{duplicates}));
my $now = picture($sim);
my $count = sub { my %n; $n{ (split m{/})[0] }++ for keys %{ $_[0] }; return \%n };
is_deeply($count->($now), $count->($edited), 'as many records and relationships as after the first publish');
my $content = sub { my ($p) = @_; return join "\n", sort map { my ($t) = m{^([^/]+)/}; my $r = JSON::PP->new->decode($p->{$_}); $t eq 'cmdb_ci_business_app' ? "$t $r->{name} " . ($r->{operational_status} // '') : $r->{name} ? "$t $r->{name}" : () } keys %$p };
is($content->($now), $content->($edited), 'of the same names');

$sim->stop;
$node->stop;
done_testing();
