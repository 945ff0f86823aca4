# The adapter's mixed payload against the simulator, without a worker: applications, their profiles and the
# relationships between them are built by SQL, sent by hand, and the answer is read by SQL.  Broken would be an index that
# points to the wrong item; compared are the simulator's rows with what was meant, and the second answer with the first.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use HTTP::Tiny;
use JSON::PP;
use PgsyncItsm;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_cluster(name => 'payload');
my $sim  = start_simulator();
load_getinsync($node, 'postgres', generate => { applications => 1, profiles => 1, services => 1, products => 1 });
load_platform($sim, $node, 'postgres');
connect_and_activate($node, 'postgres', $sim, activate => 0);

my $http  = HTTP::Tiny->new(timeout => 60);
my $token = JSON::PP::decode_json($http->post_form("$sim->{url}/oauth_token.do",
	[ grant_type => 'client_credentials', client_id => PgsyncItsm::CLIENT_ID(), client_secret => PgsyncItsm::CLIENT_SECRET() ])->{content})->{access_token};
ok($token, 'there is a token');

# 40 applications of 2 profiles, each profile running before the next one's; the owner is the platform's administrator.
$node->safe_psql('postgres', q{
CREATE TABLE given AS
SELECT row_number() OVER (ORDER BY a, k, d) AS id, a, x FROM (
    SELECT a, 1 AS k, 0 AS d, jsonb_build_object('entity_type', 'application', 'action', 'CREATE', 'native_key', 'application/m' || a, 'external_table', 'cmdb_ci_business_app',
           'payload', jsonb_build_object('name', 'Mixed ' || a, 'it_application_owner', :'admin')::text) AS x FROM generate_series(1, 40) AS a
    UNION ALL
    SELECT a, 2, d, jsonb_build_object('entity_type', 'deployment_profile', 'action', 'CREATE', 'native_key', 'deployment_profile/m' || a || '-' || d, 'external_table', 'cmdb_ci_service_auto',
           'payload', jsonb_build_object('name', 'Mixed ' || a || ' - ' || d)::text) FROM generate_series(1, 40) AS a, generate_series(1, 2) AS d
    UNION ALL
    SELECT a, 3, d, jsonb_build_object('entity_type', 'consumes', 'action', 'CREATE', 'parent_native_key', 'application/m' || a, 'child_native_key', 'deployment_profile/m' || a || '-' || d,
           'rel_type', 'Consumes::Consumed by') FROM generate_series(1, 40) AS a, generate_series(1, 2) AS d
    UNION ALL
    SELECT a, 4, 0, jsonb_build_object('entity_type', 'depends_on', 'action', 'CREATE', 'parent_native_key', 'deployment_profile/m' || a || '-1', 'child_native_key', 'deployment_profile/m' || a || '-2',
           'rel_type', 'Depends on::Used by') FROM generate_series(1, 40) AS a) AS y;
CREATE FUNCTION items() RETURNS json LANGUAGE sql AS $$ SELECT json_agg(x || jsonb_build_object('item_id', id, 'bundle', a) ORDER BY id) FROM given $$;
CREATE TABLE answers (n int, item_id bigint, outcome text, operation text, external_id text, error_class text);
} =~ s/:'admin'/"'" . admin_id() . "'"/er);

sub admin_id
{
	my ($admin) = grep { ($_->{email} // '') eq 'admin@example.com' } @{ $sim->dump('sys_user')->{sys_user} };
	return $admin->{sys_id};
}

sub exchange
{
	my ($n) = @_;
	my ($path, $body, $nused) = split /\x1e/, $node->safe_psql('postgres',
		q{SELECT path || E'\x1e' || body || E'\x1e' || nused FROM pgsync_itsm.adapter_build('servicenow', '{}', items())});
	my $answer = $http->post($sim->url . $path, { content => $body,
		headers => { 'content-type' => 'application/json', accept => 'application/json', authorization => "Bearer $token" } });
	is($answer->{status}, 200, "payload $n: answered") or diag($answer->{content});
	my $hex = unpack('H*', $answer->{content});
	$node->safe_psql('postgres', "INSERT INTO answers SELECT $n, item_id, outcome, operation, external_id, error_class
		FROM pgsync_itsm.adapter_read('servicenow', '{}', items(), 200, 'application/json', '\\x$hex')");
	return $nused;
}

is(exchange(1), 40 * 6, 'everything travels in one payload');
is($node->safe_psql('postgres', 'SELECT outcome, operation, count(*) FROM answers WHERE n = 1 GROUP BY 1, 2'), 'done|create|240', 'everything was made');
my $all  = $sim->dump(qw(cmdb_ci_business_app cmdb_ci_service_auto cmdb_rel_ci cmdb_rel_type));
my %name = map { $_->{sys_id} => $_->{name} } map { @{ $all->{$_} } } qw(cmdb_ci_business_app cmdb_ci_service_auto cmdb_rel_type);
is_deeply([ sort grep { /Mixed/ } map { join ' | ', @name{ @{$_}{qw(parent type child)} } } @{ $all->{cmdb_rel_ci} } ],
	[ sort map { ("Mixed $_ | Consumes::Consumed by | Mixed $_ - 1", "Mixed $_ | Consumes::Consumed by | Mixed $_ - 2",
				  "Mixed $_ - 1 | Depends on::Used by | Mixed $_ - 2") } 1 .. 40 ], 'every relationship has its own ends');
is($node->safe_psql('postgres', q{SELECT count(*) FROM answers AS a JOIN given AS g ON g.id = a.item_id
	WHERE g.x ->> 'payload' IS NOT NULL AND a.external_id IS NULL}), '0', 'every record has an id');
my %told = map { split /\|/ } split /\n/, $node->safe_psql('postgres', q{SELECT a.external_id, (g.x ->> 'payload')::json ->> 'name'
	FROM answers AS a JOIN given AS g ON g.id = a.item_id WHERE g.x ->> 'payload' IS NOT NULL});
is_deeply(\%told, { map { $_ => $name{$_} } grep { $name{$_} =~ /^Mixed/ } keys %name }, 'and it is the id of the record of its name');

is(exchange(2), 240, 'once more');
is($node->safe_psql('postgres', q{SELECT count(*) FROM answers AS a JOIN answers AS b USING (item_id)
	WHERE a.n = 1 AND b.n = 2 AND a.external_id = b.external_id AND b.outcome IN ('done', 'unchanged') AND b.operation IS DISTINCT FROM 'create'}), '240',
	'nothing is made twice');
$sim->stop;
$node->stop;
done_testing();
