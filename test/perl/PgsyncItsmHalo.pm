# PgsyncItsmHalo.pm: a simulated HaloITSM tenant for TAP tests.
#
#     my $halo = start_halo();
#     my $ids  = $halo->portfolio;           # client, site, plain asset types, their fields, statuses
#     # connect to $halo->resource_server, $halo->auth_server, $halo->tenant with HALO_CLIENT_ID, HALO_CLIENT_SECRET
#     is_deeply([ map { $_->{inventory_number} } @{ $halo->dump('Asset')->{Asset} } ], [...]);
#
# The tenant is a part of the simulator that start_simulator() starts; test/simulator/README.md says what it does.

package PgsyncItsmHalo;

use strict;
use warnings;
use Exporter 'import';
use PgsyncItsm;

our @EXPORT = qw(start_halo HALO_CLIENT_ID HALO_CLIENT_SECRET HALO_TENANT);

# Tests that look for leaked secrets look for these.
use constant HALO_CLIENT_ID     => 'tap-halo-client-31aa';
use constant HALO_CLIENT_SECRET => 'tap-halo-secret-c7d20b64';
use constant HALO_TENANT        => 'northwind';

# start_halo(%options): a simulator in a process of its own, seen as a tenant.
#   layout    'path' (default): /halo/api and /halo/auth; 'hosted': /api and /auth at the root, with a tenant;
#             'onprem': /haloapi/api and /haloauth/auth, without one
#   scopes    of the application, blanks between them; default all
#   switches  { name without halo_ => value }, which survive a reset
#   data, options   as in start_simulator
# Methods beyond those of PgsyncItsm::Simulator: resource_server, auth_server, tenant, portfolio, switch(name => value),
# edit, remove, load, dump, stats, by_resource, requests, fault(name => value), clear_faults, advance, set_clock, revoke, reset.
sub start_halo
{
	return PgsyncItsmHalo::Tenant->start(@_);
}

package PgsyncItsmHalo::Tenant;

use strict;
use warnings;
use JSON::PP ();

our @ISA = ('PgsyncItsm::Simulator');

my %layouts = (
	path   => [ '/halo/api',    '/halo/auth',     PgsyncItsmHalo::HALO_TENANT() ],
	hosted => [ '/api',         '/auth',          PgsyncItsmHalo::HALO_TENANT() ],
	onprem => [ '/haloapi/api', '/haloauth/auth', '' ]);

sub start
{
	my ($class, %opt) = @_;
	my ($api, $auth, $tenant) = @{ $layouts{ $opt{layout} // 'path' } };
	my %switches = (resource_path => $api, auth_path => $auth, tenant => $tenant, %{ $opt{switches} // {} });
	my @options = ('--halo-client',
		join(':', PgsyncItsmHalo::HALO_CLIENT_ID(), PgsyncItsmHalo::HALO_CLIENT_SECRET(), $opt{scopes} // 'all'));
	push @options, '--switch', "halo_$_=$switches{$_}" for sort keys %switches;
	my $self = $class->SUPER::start(data => $opt{data} // [], options => [ @options, @{ $opt{options} // [] } ]);
	@$self{qw(api auth tenant)} = ($self->url . $api, $self->url . $auth, $tenant);
	return $self;
}

sub resource_server { return $_[0]{api} }
sub auth_server     { return $_[0]{auth} }
sub tenant          { return $_[0]{tenant} }

# portfolio: what an administrator arranges before the first publish: client Northwind with the site Head office, types
# Application, Deployment and Software without the flags of Halo's own service model, whose first key field is Name.
# { client, site, group, name_field, application, deployment, software, live, retired } => id
sub portfolio
{
	my ($self) = @_;
	my $made = sub { my ($what, %values) = @_; return $self->edit($what => [ \%values ])->{$what}[0]{id} };
	my %ids = (name_field => 101, live => 21, retired => 23, group => 101);
	$ids{client} = $made->('Client', name => 'Northwind');
	$ids{site} = $made->('Site', name => 'Head office', client_id => $ids{client});
	$ids{ lc $_ } = $made->('AssetType', name => $_, assetgroup_id => 101, allowall_status => JSON::PP::true,
		fields => [ { field_id => 101, keyfield_id => '1' } ])
	  for qw(Application Deployment Software);
	return \%ids;
}

# switch(build => '2025', ...): names without halo_; a word is a text, true and false are JSON::PP's.
sub switch
{
	my ($self, %values) = @_;
	return $self->post('/__sim/switches', { map { ("halo_$_" => $values{$_}) } keys %values });
}

# edit(Asset => [ { id => 7, notes => 'x' } ], by => 'Carl'): somebody works at the screen, by the rules, with history and
# webhooks; nothing of it is counted.  The objects as the API would answer them.
sub edit
{
	my ($self, %objects) = @_;
	return $self->post('/__sim/halo/edit', \%objects);
}

# remove(Asset => [ 7 ]): deleted at the screen
sub remove
{
	my ($self, %ids) = @_;
	return $self->post('/__sim/halo/remove', \%ids)->{deleted};
}

# load({ Table => [ rows ] }): stored as they are, no rules, no events
sub load { return $_[0]->post('/__sim/halo/load', $_[1])->{ids} }

# dump('Asset', 'AssetRelation'): { table => [ stored rows ] }, all tables without arguments; shown('Asset'): as
# GET {id}?includedetails=true answers them
sub dump
{
	my ($self, @tables) = @_;
	return $self->get('/__sim/halo/dump?tables=' . join(',', @tables));
}

sub shown
{
	my ($self, $table) = @_;
	return $self->get("/__sim/halo/dump?shown=1&tables=$table")->{$table};
}

sub stats { return $_[0]->get('/__sim/halo/stats') }

# by_resource: { Asset => { GET => 3, POST => 2 }, token => { POST => 1 } }
sub by_resource { return $_[0]->stats->{by_resource} }

# requests(endpoint => 'api/Asset', method => 'POST', n => 100): the log, secrets redacted
sub requests
{
	my ($self, %opt) = @_;
	return $self->get('/__sim/requests?' . join('&', map { "$_=$opt{$_}" } sort keys %opt))->{requests};
}

# fault(endpoint => 'api/Asset$', method => 'POST', fault => 'close_after_commit', count => 1)
sub fault
{
	my ($self, %spec) = @_;
	return $self->post('/__sim/faults', \%spec);
}

sub clear_faults
{
	my ($self) = @_;
	return $self->_answer('DELETE faults', $self->{http}->delete($self->url . '/__sim/faults'));
}

sub advance   { return $_[0]->post('/__sim/clock', { advance => $_[1] + 0 }) }
sub set_clock { return $_[0]->post('/__sim/clock', { set => $_[1] }) }
sub revoke    { return $_[0]->post('/__sim/halo/revoke') }
sub reset     { return $_[0]->post('/__sim/reset') }

1;
