# HaloITSM: addresses in every form that people give them, the connection test and what it finds wrong, the setup.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PgsyncItsm;
use PgsyncItsmHalo;
use PostgreSQL::Test::Utils;
use Test::More;

my $city = '11111111-1111-4111-8111-111111111111';
my $node = new_cluster(name => 'halo_connect', conf => "pgsync_itsm.allowed_hosts = '*.haloitsm.com,support.example.org,127.0.0.1'\n");
load_getinsync($node, 'postgres');

# ---- addresses ------------------------------------------------------------------------------------

my $n = 0;
my @forms = (
	[ 'https://acme.haloitsm.com/api',  'https://acme.haloitsm.com/auth',        'acme', 'https://acme.haloitsm.com/api https://acme.haloitsm.com/auth/token?tenant=acme' ],
	[ 'https://acme.haloitsm.com/api/', 'https://acme.haloitsm.com/auth/',       'acme', 'https://acme.haloitsm.com/api https://acme.haloitsm.com/auth/token?tenant=acme' ],
	[ ' acme.haloitsm.com ',            undef,                                   ' acme ', 'https://acme.haloitsm.com/api https://acme.haloitsm.com/auth/token?tenant=acme' ],
	[ 'https://acme.haloitsm.com/API',  undef,                                   '',     'https://acme.haloitsm.com/API https://acme.haloitsm.com/auth/token' ],
	[ 'https://acme.haloitsm.com/api',  'https://acme.haloitsm.com',             'acme', 'https://acme.haloitsm.com/api https://acme.haloitsm.com/auth/token?tenant=acme' ],
	[ 'https://acme.haloitsm.com/api',  'https://acme.haloitsm.com/auth/token/', undef,  'https://acme.haloitsm.com/api https://acme.haloitsm.com/auth/token' ],
	[ 'https://support.example.org/haloapi/api', 'https://support.example.org/haloauth/auth', undef,
		'https://support.example.org/haloapi/api https://support.example.org/haloauth/auth/token' ],
	[ 'https://support.example.org/haloapi/api//', 'https://support.example.org/halo', undef,
		'https://support.example.org/haloapi/api https://support.example.org/halo/auth/token' ]);
for my $form (@forms)
{
	my ($resource, $auth, $tenant, $wanted) = @$form;
	my $id = $node->safe_psql('postgres', sprintf(
			"SELECT itsm_connect_halo('$city', %s, %s, %s, client_id => 'c', client_secret => 's', name => 'a%d')",
			map({ sql_literal($_) } $resource, $auth, $tenant), ++$n));
	is($node->safe_psql('postgres', "SELECT instance_url || ' ' || (settings ->> 'token_path') FROM integration_connections WHERE id = '$id'"),
		$wanted, "$resource, " . ($auth // 'no authorisation server') . ', ' . ($tenant // 'no tenant'));
}
for my $bad (
	[ 'https://acme.haloitsm.com/api?x=1', undef, undef, qr/is no address of a server/ ],
	[ 'https://evil.example.com/api', undef, undef, qr/cannot be used/ ],
	[ 'https://acme.haloitsm.com/api', 'https://evil.example.com/auth', undef, qr/authorisation server .* cannot be used/ ],
	[ 'http://acme.haloitsm.com/api', undef, undef, qr/cannot be used/ ],
	[ '', undef, undef, qr/must not be empty/ ],
	[ 'https://acme.haloitsm.com/api', undef, 'a&b=c', qr/invalid tenant/ ])
{
	my ($resource, $auth, $tenant, $words) = @$bad;
	my ($code, $out, $err) = $node->psql('postgres', sprintf("SELECT itsm_connect_halo('$city', %s, %s, %s, client_id => 'c', client_secret => 's')",
			map({ sql_literal($_) } $resource, $auth, $tenant)));
	like($err, $words, "refused: $resource " . ($auth // '') . ' ' . ($tenant // ''));
}
my ($code, $out, $err) = $node->psql('postgres', "SELECT itsm_connect_halo('$city', 'https://acme.haloitsm.com/api', client_id => 'c')");
like($err, qr/needs client_id and client_secret.*itsm_connect_halo/s, 'a secret is needed, and the hint can be pasted');

for my $unable ([ "sync_direction => 'both'", qr/does not read/ ], [ q(settings => '{"retire_by": "delete"}'), qr/nothing is deleted on HaloITSM/ ])
{
	($code, $out, $err) = $node->psql('postgres', "SELECT itsm_connect_halo('$city', 'https://acme.haloitsm.com/api', client_id => 'c', client_secret => 's', $unable->[0])");
	like($err, $unable->[1], "refused: $unable->[0]");
}

# ---- the test of a connection ---------------------------------------------------------------------

sub connect_to
{
	my ($halo, %args) = @_;
	my %all = (
		resource_server => sql_literal($halo->resource_server), authorisation_server => sql_literal($halo->auth_server),
		tenant => sql_literal($halo->tenant), client_id => sql_literal(HALO_CLIENT_ID), client_secret => sql_literal(secret_file(HALO_CLIENT_SECRET)),
		halo_client => "'Northwind'", halo_site => "'Head office'", service_category => "'General'", name => sql_literal('t' . ++$n), %args);
	my $list = join ', ', map { "$_ => $all{$_}" } sort keys %all;
	return $node->safe_psql('postgres', "SELECT itsm_connect_halo('$city', $list)");
}
sub checks
{
	my ($id) = @_;
	my %rows;
	for my $line (split /\n/, $node->safe_psql('postgres',
			qq{SELECT "check" || '~' || coalesce(ok::text, 'unknown') || '~' || detail || '~' || coalesce(hint, '') FROM itsm_test_connection('$id')}))
	{
		my ($check, $ok, $detail, $hint) = split /~/, $line, 4;
		$rows{$check} = { ok => $ok, detail => $detail, hint => $hint };
	}
	return \%rows;
}
sub ids_of
{
	my ($id) = @_;
	return $node->safe_psql('postgres', "SELECT settings ->> 'halo_ids' FROM integration_connections WHERE id = '$id'");
}

for my $layout (qw(path hosted onprem))
{
	my $halo = start_halo(layout => $layout);
	$halo->edit(Client => [ { name => 'Northwind' } ]);
	my $client = (grep { $_->{name} eq 'Northwind' } @{ $halo->dump('Client')->{Client} })[0]{id};
	$halo->edit(Site => [ { name => 'Head office', client_id => $client } ]);
	my $id = connect_to($halo);
	my $rows = checks($id);
	for my $check ('address', 'connect', 'authinfo', 'token', 'version', 'assets', 'services', 'suppliers', 'supplier contracts', 'users', 'agents',
		'scope edit:assets', 'scope edit:contracts', 'client', 'site', 'service category')
	{
		is($rows->{$check}{ok}, 'true', "$layout: $check is good") or diag(explain $rows->{$check});
	}
	is($rows->{'asset types'}{ok}, 'false', "$layout: the asset types are not set up yet");
	like($rows->{'asset types'}{hint}, qr/itsm_halo_setup/, "$layout: and the hint says how");
	is($node->safe_psql('postgres', "SELECT instance_name FROM integration_connections WHERE id = '$id'"), $halo->tenant || "127.0.0.1:" . $halo->port,
		"$layout: the tenant is remembered");
	$halo->stop;
}

my $halo = start_halo();
my $made = $halo->portfolio;
my $id = connect_to($halo);
checks($id);
my $kept = JSON::PP::decode_json(ids_of($id));
is($kept->{client}, $made->{client}, 'the id of the client is kept');
is($kept->{site}, $made->{site}, 'that of its site');
is($kept->{category}, 1, 'that of the category');
is($kept->{build}, 236, 'the build');

# what can be wrong
my $rows = checks(connect_to($halo, halo_client => "'Nobody'"));
is($rows->{client}{ok}, 'false', 'a client that is not there');
like($rows->{client}{hint}, qr/itsm_set\(connection_id, 'halo_client'/, 'has a hint');
$rows = checks(connect_to($halo, halo_client => 'NULL', halo_site => 'NULL', service_category => 'NULL'));
like($rows->{client}{detail}, qr/not chosen/, 'a client that was not chosen');
like($rows->{'service category'}{hint}, qr/General/, 'a choice shows what there is');
$rows = checks(connect_to($halo, halo_client => sql_literal($made->{client}), halo_site => sql_literal($made->{site}), service_category => "'1'"));
is($rows->{$_}{ok}, 'true', "$_ by its id") for ('client', 'site', 'service category');
$rows = checks(connect_to($halo, halo_site => "'1'"));
is($rows->{site}{ok}, 'false', 'the site of another client is refused');
$rows = checks(connect_to($halo, client_secret => "'wrong'"));
is($rows->{token}{ok}, 'false', 'a wrong secret');
like($rows->{token}{detail}, qr/invalid_client/, 'is named by what the platform says');
$rows = checks(connect_to($halo, tenant => "'southwind'"));
is($rows->{token}{ok}, 'false', 'another tenant');
like($rows->{authinfo}{detail}, qr/tenant northwind/, 'authinfo says which one is there');
$rows = checks(connect_to($halo, settings => q('{"token_scope": "read:users"}')));
like($rows->{token}{detail}, qr/invalid_scope/, 'a scope that does not exist');
unlike($node->safe_psql('postgres', 'SELECT string_agg(settings::text, chr(10)) FROM integration_connections'), qr/${\HALO_CLIENT_SECRET}/, 'no secret is in a setting');
$rows = checks(connect_to($halo, resource_server => sql_literal($halo->url . '/nowhere/api')));
is($rows->{authinfo}{ok}, 'false', 'a wrong resource server');
$halo->stop;

my $narrow = start_halo(scopes => 'read:assets edit:assets read:customers read:suppliers');
$narrow->portfolio;
$id = connect_to($narrow, settings => q('{"token_scope": "read:assets edit:assets read:customers read:suppliers"}'));
$rows = checks($id);
is($rows->{assets}{ok}, 'true', 'few scopes: assets can be read');
is($rows->{'supplier contracts'}{ok}, 'false', 'few scopes: contracts cannot');
like($rows->{'supplier contracts'}{hint}, qr/read:contracts and edit:contracts/, 'few scopes: and the hint names them');
is($rows->{'scope edit:suppliers'}{ok}, 'false', 'few scopes: suppliers cannot be written');

# ---- the setup ------------------------------------------------------------------------------------

# the right to change the configuration is missing
($code, $out, $err) = $node->psql('postgres', "SELECT kind, state, detail FROM itsm_halo_setup('$id', apply => true)");
like($out, qr/asset type\|refused\|.*scope admin/, 'without the scope, the setup says what it needs');
$narrow->stop;

$halo = start_halo();
$halo->portfolio;
$id = connect_to($halo);
checks($id);
sub setup
{
	my ($apply) = @_;
	my %state;
	for (split /\n/, $node->safe_psql('postgres', "SELECT kind || '~' || name || '~' || state || '~' || coalesce(id::text, '') || '~' || coalesce(detail, '')
	                                                FROM itsm_halo_setup('$id', apply => $apply)"))
	{
		my ($kind, $name, @rest) = split /~/, $_, -1;
		push @{ $state{$kind} }, [ $name, @rest ];
	}
	return \%state;
}
$halo->reset_counters;
my $before = setup('false');
is($halo->stats->{writes}, 0, 'looking writes nothing');
is_deeply({ map { $_->[0] => $_->[1] } @{ $before->{'asset type'} } },
	{ 'Business Application' => 'missing', 'Application Instance' => 'missing', 'Software' => 'found' },
	"types of Halo's own service model are not taken, a plain one is");
is_deeply([ map { $_->[1] } grep { $_->[0] =~ /^Operational|Retired/ } @{ $before->{status} } ], [ 'found', 'found' ], 'statuses that are called otherwise will do');
is(scalar(grep { $_->[1] eq 'missing' } @{ $before->{status} }), 2, 'others are missing');
my $after = setup('true');
is_deeply([ grep { $_->[1] !~ /^(found|made|not needed)$/ } map { @{ $after->{$_} } } grep { $_ ne 'relation kind' } keys %$after ], [], 'with apply, nothing is missing');
my %types = map { $_->{name} => $_ } @{ $halo->dump('AssetType')->{AssetType} };
ok($types{'Business Application (portfolio)'} && !$types{'Business Application (portfolio)'}{is_businessapp}, 'a plain type is beside the other one');
is($types{'Business Application'}{is_businessapp}, JSON::PP::true, 'which is as it was');
my ($key) = grep { $_->{id} == $types{'Business Application (portfolio)'}{keyfield_id} } @{ $types{'Business Application (portfolio)'}{fields} };
is($key->{field_name}, 'Application name', 'the name is the first key field');
ok((grep { $_->{field_name} eq 'Manufacturer' } @{ $types{Software}{fields} }) && (grep { $_->{field_name} eq 'Name' } @{ $types{Software}{fields} }),
	'a type that was there keeps its fields and gets those that it lacked');
$halo->reset_counters;
my $again = setup('true');
is($halo->stats->{writes}, 0, 'again: nothing to make');
is_deeply([ map { $_->[1] } @{ $again->{'asset type'} } ], [ ('found') x 3 ], 'again: all types are found');
is(checks($id)->{'asset types'}{ok}, 'true', 'the connection test finds them');

# kinds of relations: all of them or none
is($node->safe_psql('postgres', "SELECT pgsync_itsm.setting('$id', 'relation_lookup')"), '', 'kinds that are not all there are not used');
$halo->load({ RelationKind => [ { name => 'Has instance' }, { name => 'Sends data to' }, { name => 'Exchanges data with' } ] });
setup('true');
is($node->safe_psql('postgres', "SELECT pgsync_itsm.setting('$id', 'relation_lookup')"), '87', 'once all of them are there, they are');
is($node->safe_psql('postgres', "SELECT count(*) FROM integration_connections WHERE settings::text LIKE '%" . HALO_CLIENT_SECRET . "%'"), 0, 'no secret in a setting');
$halo->stop;
$node->stop;
done_testing();
