# PgsyncItsmModel.pm: what two-way sync has to come to, said once more and independently.
#
# Nothing here reads a table of the extension or calls a function of it.  The model is told of edits, of runs that begin and
# of runs that have ended, and says what both sides may hold.  While a run is under way nobody outside knows how far it is:
# so a record is a set of worlds, each of them one way in which things may have gone, and an edit happens to each of them.
# A reading (S) looks there, compares with what is here, and writes here what nobody has changed meanwhile.  A publish (P)
# reads here, looks there, and writes there.  With no run under way there is one world, and one answer.
#
#     my $model = PgsyncItsmModel->new;
#     $model->add('id', 'application', { name => 'A', ... });      # new here, not there yet
#     $model->run('P'); $model->settled;
#     $model->edit_there('id', { name => 'B' }, $stamp);
#     $model->run('S'); $model->settled;
#     $model->observe('id', { here => {...}, there => {...}, conflicts => [] })   # undef, or what is wrong

package PgsyncItsmModel;

use strict;
use warnings;
use JSON::PP ();

# Fields of an entity type as the platform names them.  A choice: here => there; what several things here are called there
# comes back as the first by name.  limit: the platform cuts what is longer, which is no edit.
my %choice = (
	operational_status => { operational => '1', pipeline => '7', retired => '6' },
	environment        => { PROD => 'Production', DEV => 'Development', SBX => 'Development', TEST => 'Test', UAT => 'Test' });
my %limit = (version => 40);
our %FIELDS = (
	application        => [qw(name short_description comments operational_status)],
	deployment_profile => [qw(version environment)]);
our %AUTHORITY = (comments => 'if_empty');
our $MOST_WORLDS = 3000;

my $json = JSON::PP->new->canonical->allow_nonref;

# A value of ours as it is there, and one of theirs as it is here.
sub term
{
	my ($field, $here) = @_;
	return '' if $here eq '';
	return $choice{$field}{$here} // die "$field: $here" if $choice{$field};
	return exists $limit{$field} ? substr($here, 0, $limit{$field}) : $here;
}

# More is here than is sent: it would be lost.
sub is_cut { my ($field, $here) = @_; return $here ne '' && exists $limit{$field} && length $here > $limit{$field} }

sub local_value
{
	my ($field, $there) = @_;
	return $there if !$choice{$field} || $there eq '';
	my ($first) = sort grep { $choice{$field}{$_} eq $there } keys %{ $choice{$field} };
	return $first // die "$field: $there";
}

sub new
{
	my ($class) = @_;
	return bless { policy => 'manual', authority => {%AUTHORITY}, runs => [], disturbed => 0, free => 0, records => {}, wide => 0, most => 1, checked => 0 }, $class;
}

# there is never, there or gone; known: what was last agreed, field by field; conflict: fields that are in conflict, with both values and
# when each was made; pending: what was read there, and could not be written here yet.
sub add
{
	my ($self, $id, $type, $here, $parent) = @_;
	my $at = @{ $self->{runs} };
	# runs that are under way may see it from their beginning, or not at all
	my @worlds = map { { here => {%$here}, there => {}, known => {}, conflict => {}, pending => {}, state => 'never', deleted => 0, refuses => 0, here_at => undef, there_at => undef, run => $_, step => 0 } }
	  0 .. $at;
	$self->{records}{$id} = { type => $type, fields => $FIELDS{$type}, parent => $parent, worlds => \@worlds };
	return;
}

# ---- whose value holds ------------------------------------------------------------------------------

# The answers that are allowed; more than one only where the times do not say.
sub decide
{
	my ($self, $field, $known, $ours, $theirs, $ours_at, $theirs_at) = @_;
	my $authority = $self->{authority}{$field} // 'policy';
	return 'nothing' if $theirs eq $known;
	return 'agreed'  if $theirs eq $ours;
	return 'ours'    if $authority eq 'ours';
	return $ours eq '' ? 'theirs' : 'ours' if $authority eq 'if_empty';
	return 'theirs'   if $ours eq $known || $authority eq 'theirs';
	return 'conflict' if $authority eq 'manual';
	if ($authority eq 'newest' || $self->{policy} eq 'last_write_wins')
	{
		# a run has written to that record since
		return qw(ours theirs conflict) unless defined $ours_at && defined $theirs_at;
		# the platform's times are whole seconds
		return 'conflict' if int($ours_at) == $theirs_at;
		return $theirs_at > $ours_at ? 'theirs' : 'ours';
	}
	return { local_wins => 'ours', remote_wins => 'theirs' }->{ $self->{policy} } // 'conflict';
}

# ---- runs -------------------------------------------------------------------------------------------

sub copy
{
	my ($w) = @_;
	return { %$w, map { $_ => { %{ $w->{$_} } } } qw(here there known conflict pending) };
}

# A run that began by itself (of) leaves those that were called where they are.
sub ended
{
	my ($w) = @_;
	my $n = copy($w);
	delete $n->{seen};
	@{$n}{qw(run step)} = ($w->{run} + (defined delete $n->{of} ? 0 : 1), 0);
	return $n;
}

sub run_of { my ($self, $w) = @_; return defined $w->{of} ? { kind => $w->{of}, disturbed => $self->{disturbed} } : $self->{runs}[ $w->{run} ] }

# What comes of the next thing that a run does to this record: one world or several.
sub advance
{
	my ($self, $r, $w) = @_;
	my $run = $self->run_of($w);
	my @next = $run->{kind} eq 'S' ? $self->reading($r, $w) : $run->{kind} eq 'P' ? $self->publish($r, $w) : $self->decided($r, $w, $run);
	# what fails or is killed begins anew, or not before the next run
	push @next, ended($w), $w->{step} ? do { my $n = copy($w); $n->{step} = 0; $n } : () if $run->{disturbed};
	return @next;
}

sub decided
{
	my ($self, $r, $w, $run) = @_;
	return ended($w) if $self->{records}{ $run->{id} } != $r || $w->{deleted};
	my $n = ended($w);
	if ($w->{refuses})
	{
		# decided anew, and nothing is agreed that was not before
		$n->{known}{ $run->{field} } = $w->{conflict}{ $run->{field} }{known} if $w->{conflict}{ $run->{field} };
		return $n;
	}
	$n->{here}{ $run->{field} } = $run->{value};
	delete $n->{conflict}{ $run->{field} };
	$n->{here_at} = undef;
	return $n;
}

sub reading
{
	my ($self, $r, $w) = @_;
	return ended($w) if $w->{state} eq 'never' || $w->{deleted};
	my $n = copy($w);
	# when a deletion is heard of depends on what may be read there; until then what was read before is what is there
	if ($w->{state} eq 'gone' && $w->{step} == 0)
	{
		my %left = ((map { $_ => $w->{conflict}{$_}{theirs} } keys %{ $w->{conflict} }), map { $_ => $w->{pending}{$_}{theirs} } keys %{ $w->{pending} });
		my ($at) = map { $_->{at} } values %{ $w->{pending} };
		@{$n}{qw(step seen)} = (1, { there => { %{ $w->{known} }, %left }, there_at => $at });
		return (ended($w), %left ? $n : ());
	}
	if ($w->{step} == 0)
	{
		@{$n}{qw(step seen)} = (1, { there => { %{ $w->{there} } }, there_at => $w->{there_at} });
		return $n;
	}
	return $self->compared($r, $w) if $w->{step} == 1;
	my @fields = sort keys %{ $w->{seen}{write} };
	# what is refused here is tried again by the next reading
	if ($w->{refuses} || grep { $w->{here}{$_} ne $w->{seen}{here}{$_} } @fields)
	{
		$n->{pending}{$_} = { theirs => $w->{seen}{there}{$_}, at => $w->{seen}{there_at} } for @fields;
		return ended($n);
	}
	for my $f (@fields)
	{
		delete $n->{pending}{$f};
		$n->{here}{$f} = local_value($f, $w->{seen}{there}{$f});
		$n->{known}{$f} = $w->{seen}{there}{$f};
		delete $n->{conflict}{$f};
		$n->{here_at} = undef;
	}
	return ended($n);
}

sub compared
{
	my ($self, $r, $w) = @_;
	my $begin = copy($w);
	$begin->{step} = 2;
	$begin->{seen} = { %{ $w->{seen} }, here => { %{ $w->{here} } }, write => {} };
	my @worlds = ($begin);
	for my $f (@{ $r->{fields} })
	{
		my $theirs = $w->{seen}{there}{$f};
		my $ours = term($f, $w->{here}{$f});
		# a value that is in conflict is as old as it was then
		my $c = $w->{conflict}{$f} // {};
		my ($ours_at, $theirs_at) = (($c->{ours} // "\0") eq $ours ? $c->{ours_at} : $w->{here_at}, ($c->{theirs} // "\0") eq $theirs ? $c->{theirs_at} : $w->{seen}{there_at});
		my @d = map { $_ eq 'theirs' && is_cut($f, $w->{here}{$f}) ? 'conflict' : $_ } $self->decide($f, $w->{known}{$f}, $ours, $theirs, $ours_at, $theirs_at);
		@worlds = map {
			my $from = $_;
			map {
				my $n = copy($from);
				$n->{seen} = { %{ $from->{seen} }, write => { %{ $from->{seen}{write} } } };
				$n->{known}{$f} = $theirs if $_ eq 'agreed' || $_ eq 'ours';
				delete $n->{pending}{$f} if $_ ne 'theirs';
				$n->{seen}{write}{$f} = 1 if $_ eq 'theirs';
				if ($_ eq 'conflict') { $n->{conflict}{$f} = { known => $w->{known}{$f}, ours => $ours, theirs => $theirs, ours_at => $ours_at, theirs_at => $theirs_at } }
				elsif ($_ ne 'theirs') { delete $n->{conflict}{$f} }
				$n;
			} @d
		} @worlds;
	}
	return @worlds;
}

sub publish
{
	my ($self, $r, $w) = @_;
	return $self->retired($w) if $w->{deleted};
	return ended($w) if $w->{state} eq 'gone';
	my $n = copy($w);
	if ($w->{step} == 0)
	{
		my $same = $w->{state} eq 'there' && !grep { term($_, $w->{here}{$_}) ne $w->{known}{$_} } @{ $r->{fields} };
		return ended($w) if $same && !$r->{stirred};
		# what is retired and was never there is not published; whether a profile's application is, is not known here
		return ended($w) if $w->{state} eq 'never' && ($w->{here}{operational_status} // '') eq 'retired';
		@{$n}{qw(step seen)} = (1, { here => { %{ $w->{here} } } });
		return $same || $r->{type} eq 'deployment_profile' && $w->{state} eq 'never' ? ($n, ended($w)) : $n;
	}
	my %ours = map { $_ => term($_, $w->{seen}{here}{$_}) } @{ $r->{fields} };
	if ($w->{step} == 1)
	{
		return ended($w) if %{ $w->{conflict} };
		$n->{step} = 2;
		$n->{seen} = { %{ $w->{seen} }, leave => {} };
		for my $f ($w->{state} eq 'there' ? @{ $r->{fields} } : ())
		{
			next if $w->{there}{$f} eq $w->{known}{$f} || $w->{there}{$f} eq $ours{$f};
			# a change that was not read yet is not written over
			return ended($w) unless ($self->{authority}{$f} // '') =~ /^(theirs|if_empty)$/;
			$n->{seen}{leave}{$f} = 1 if $w->{there}{$f} ne '';
		}
		return $n;
	}
	@{$n}{qw(state there_at)} = ('there', undef);
	for my $f (grep { !$w->{seen}{leave}{$_} } @{ $r->{fields} })
	{
		$n->{known}{$f} = $n->{there}{$f} = $ours{$f};
	}
	# written once more when it is not known to have been written
	return $self->run_of($w)->{disturbed} ? (ended($n), $n) : ended($n);
}

# What was deleted here, and we made there, is retired there.
sub retired
{
	my ($self, $w) = @_;
	my $n = ended($w);
	$n->{there}{operational_status} = $n->{known}{operational_status} = '6' if $w->{state} eq 'there' && $w->{deleted} eq 'noted';
	return $n;
}

# ---- what the test tells ----------------------------------------------------------------------------

# All that may be by now: runs under way have gone as far as they may.
sub spread
{
	my ($self, $r, $to_the_end) = @_;
	my (%seen, @all);
	my @todo = @{ $r->{worlds} };
	while (my $w = shift @todo)
	{
		next if $seen{ $json->encode($w) }++;
		push @todo, map { my $n = copy($w); $n->{of} = $_; $n } qw(S P) if $self->{free} && !defined $w->{of} && $w->{step} == 0;
		if (defined $w->{of} || $w->{run} < @{ $self->{runs} }) { push @todo, $self->advance($r, $w); next if $to_the_end }
		push @all, $w;
		if (keys %seen > $MOST_WORLDS) { $r->{wide} = 1; last }
	}
	$self->{most} = @all if @all > $self->{most};
	$r->{worlds} = \@all;
	return;
}

sub run
{
	my ($self, $kind, %what) = @_;
	push @{ $self->{runs} }, { kind => $kind, disturbed => $self->{disturbed}, %what };
	return;
}

# From now on, and to what is under way: calls fail, processes are killed.
sub disturb
{
	my ($self, $on) = @_;
	$self->{disturbed} = $on;
	$_->{disturbed} ||= $on for @{ $self->{runs} };
	return;
}

# All runs have ended.
sub settled
{
	my ($self) = @_;
	# what changes are published by themselves have been
	$self->run('P') if $self->{free};
	for my $r (values %{ $self->{records} })
	{
		$self->spread($r, 1) if @{ $self->{runs} };
		@{$_}{qw(run step)} = (0, 0) for @{ $r->{worlds} };
		delete $_->{seen} for @{ $r->{worlds} };
		my %seen;
		@{ $r->{worlds} } = grep { !$seen{ $json->encode($_) }++ } @{ $r->{worlds} };
	}
	$self->{runs} = [];
	return;
}

sub touch
{
	my ($self, $id, $deed) = @_;
	my $r = $self->{records}{$id} // die "no record $id";
	$self->spread($r) if $self->{free} || @{ $self->{runs} };
	$deed->($_) for @{ $r->{worlds} };
	return;
}

# A profile is sent, too, when that of its application has changed from which its name and its status are made.
sub stir
{
	my ($self, $id, @fields) = @_;
	return unless grep { /^(name|operational_status)$/ } @fields;
	$_->{stirred} = 1 for grep { ($_->{parent} // '') eq $id } values %{ $self->{records} };
	return;
}

sub edit_here
{
	my ($self, $id, $values, $at) = @_;
	$self->stir($id, keys %$values);
	return $self->touch($id, sub { my ($w) = @_; $w->{here} = { %{ $w->{here} }, %$values }; $w->{here_at} = $at });
}

# Nobody can edit there what is not there.
sub edit_there
{
	my ($self, $id, $values, $at) = @_;
	$self->stir($id, keys %$values);
	$self->touch($id, sub { my ($w) = @_; $w->{there} = { %{ $w->{there} }, %$values }; $w->{there_at} = $at });
	return $self->only($id, sub { $_[0]{state} eq 'there' });
}

# Writes of the extension to this row fail from now on, or do so no more.
sub refuse { my ($self, $id, $on) = @_; return $self->touch($id, sub { $_[0]{refuses} = $on }) }

# A deletion that no trigger notes is an absence, which concludes nothing.
sub delete_here { my ($self, $id) = @_; my $noted = $self->{free} ? 'noted' : 'unnoted'; return $self->touch($id, sub { $_[0]{deleted} = $noted }) }

sub delete_there
{
	my ($self, $id) = @_;
	$self->touch($id, sub { $_[0]{state} = 'gone' if $_[0]{state} eq 'there' });
	return $self->only($id, sub { $_[0]{state} eq 'gone' });
}

# Somebody decides a conflict that shows this value of theirs.
sub resolve
{
	my ($self, $id, $field, $side, $theirs, $value) = @_;
	$self->stir($id, $field);
	$self->touch($id, sub { my ($w) = @_; $w->{known}{$field} = $theirs if exists $w->{conflict}{$field}; delete $w->{conflict}{$field} if $side eq 'ours' });
	$self->run('D', id => $id, field => $field, value => $side eq 'theirs' ? local_value($field, $theirs) : $value) if $side ne 'ours';
	return;
}

sub only
{
	my ($self, $id, $holds) = @_;
	my $r = $self->{records}{$id};
	my @rest = grep { $holds->($_) } @{ $r->{worlds} };
	$r->{worlds} = \@rest if @rest;
	return scalar @rest;
}

# ---- what is seen at rest ---------------------------------------------------------------------------

# Worlds that are as what was seen; here and there undef: it is not there.
sub as_seen
{
	my ($r, $w, $seen) = @_;
	return 0 if !$w->{deleted} ne !!defined $seen->{here} || ($w->{state} eq 'there') != defined $seen->{there};
	return $w->{state} ne 'there' || $w->{deleted} ne 'noted' || $seen->{there}{operational_status} eq '6' if $w->{deleted};
	return 0 if grep { $w->{here}{$_} ne $seen->{here}{$_} } @{ $r->{fields} };
	return 1 unless defined $seen->{there};
	return 0 if grep { $w->{there}{$_} ne $seen->{there}{$_} } @{ $r->{fields} };
	return join(' ', sort keys %{ $w->{conflict} }) eq join(' ', sort @{ $seen->{conflicts} });
}

# undef, or what is wrong with a record; what was seen is what is known of it from now on.
sub observe
{
	my ($self, $id, $seen) = @_;
	my $r = $self->{records}{$id};
	$self->{checked}++;
	# what is held is sent later, and what is decided of its application stirs it then
	$r->{open} = @{ $seen->{conflicts} };
	$r->{stirred} = 0 unless $r->{open} || $r->{parent} && $self->{records}{ $r->{parent} }{open};
	if ($r->{wide}) { $self->{wide}++; $self->forget($id, $seen); return undef }
	return undef if $self->only($id, sub { as_seen($r, $_[0], $seen) });
	my %say = map { $json->encode({ here => $_->{deleted} ? undef : $_->{here}, there => $_->{state} eq 'there' ? $_->{there} : undef,
			known => $_->{known}, conflicts => [ sort keys %{ $_->{conflict} } ] }) => 1 } @{ $r->{worlds} };
	my @say = sort keys %say;
	splice @say, 6 if @say > 6;
	return "$r->{type} $id is " . $json->encode($seen) . "\n" . join "\n", map { "  allowed: $_" } @say;
}

# Too much has happened to it at once: what is seen is believed, if both sides agree.
sub forget
{
	my ($self, $id, $seen) = @_;
	my $r = $self->{records}{$id};
	$r->{wide} = 0;
	return unless $seen->{here} && $seen->{there};
	# of a conflict the base is no side's, and when each was made nobody has told
	my %base = map { $_ => $seen->{bases}{$_} } @{ $seen->{conflicts} };
	my %conflict = map { $_ => { known => $base{$_}, ours => term($_, $seen->{here}{$_}), theirs => $seen->{there}{$_} } } keys %base;
	$r->{worlds} = [ { here => { %{ $seen->{here} } }, there => { %{ $seen->{there} } }, known => { %{ $seen->{there} }, %base }, conflict => \%conflict, pending => {},
			state => 'there', deleted => 0, refuses => 0, here_at => undef, there_at => undef, run => 0, step => 0 } ];
	return;
}

# Does the model itself say that both sides agree?
sub in_step
{
	my ($r, $w) = @_;
	return 1 if $w->{deleted} || $w->{state} ne 'there';
	return !grep { !exists $w->{conflict}{$_} && term($_, $w->{here}{$_}) ne $w->{there}{$_} } @{ $r->{fields} } unless %{ $w->{conflict} };
	return 1;
}

1;
