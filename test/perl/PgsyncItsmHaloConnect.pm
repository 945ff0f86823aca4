# PgsyncItsmHaloConnect.pm: a connection to a simulated HaloITSM tenant that is ready to publish.
#
#     my $halo = start_halo();
#     my $made = prepare_halo($halo);
#     my $id   = connect_halo($node, 'postgres', $halo, namespace => $ns);

package PgsyncItsmHaloConnect;

use strict;
use warnings;
use Exporter 'import';
use JSON::PP ();
use PgsyncItsm;
use PgsyncItsmHalo;

our @EXPORT = qw(prepare_halo connect_halo);

# prepare_halo($halo, %opt): client Northwind with its site, the kinds of relations, and users and suppliers that are there
# before us.  { client, site } => id
sub prepare_halo
{
	my ($halo, %opt) = @_;
	my %ids;
	$ids{client} = $halo->edit(Client => [ { name => 'Northwind' } ])->{Client}[0]{id};
	$ids{site} = $halo->edit(Site => [ { name => 'Head office', client_id => $ids{client} } ])->{Site}[0]{id};
	$halo->load({ RelationKind => [ map { { name => $_ } } 'Has instance', 'Sends data to', 'Exchanges data with' ] });
	my @users = map { { name => ucfirst((split /\@/)[0]), emailaddress => $_, client_id => $ids{client}, site_id => $ids{site} } } @{ $opt{users} // [] };
	$halo->edit(Users => \@users) if @users;
	return \%ids;
}

# connect_halo($node, $db, $halo, %opt): connection id of an active connection, set up there.
#   namespace  default namespace_of();  activate 0: leave it inactive;  setup 0: leave the tenant as it is
#   args       { argument of itsm_connect_halo => SQL expression }
# Any other name is taken as a setting.
sub connect_halo
{
	my ($node, $db, $halo, %opt) = @_;
	my $namespace = delete $opt{namespace} // namespace_of($node, $db);
	my $activate  = delete $opt{activate}  // 1;
	my $setup     = delete $opt{setup}     // 1;
	my $args      = delete $opt{args}      // {};
	my %all = (
		namespace_id         => sql_literal($namespace) . '::uuid',
		resource_server      => sql_literal($halo->resource_server),
		authorisation_server => sql_literal($halo->auth_server),
		tenant               => sql_literal($halo->tenant),
		client_id            => sql_literal(HALO_CLIENT_ID),
		client_secret        => sql_literal(secret_file(HALO_CLIENT_SECRET)),
		halo_client          => "'Northwind'",
		halo_site            => "'Head office'",
		service_category     => "'General'",
		settings             => sql_literal(JSON::PP->new->canonical->encode(\%opt)) . '::jsonb',
		%$args);
	my $list = join ', ', map { "$_ => $all{$_}" } grep { defined $all{$_} } sort keys %all;
	my $id = $node->safe_psql($db, "SELECT itsm_connect_halo($list)");
	if ($setup)
	{
		$node->safe_psql($db, "SELECT count(*) FROM itsm_test_connection('$id')");
		$node->safe_psql($db, "SELECT count(*) FROM itsm_halo_setup('$id', apply => true)");
	}
	$node->safe_psql($db, "SELECT itsm_activate('$id')") if $activate;
	return $id;
}

1;
