/*
 * Which nodes a write to a Redis Cluster waits for: the registry is on one master, the Partition on another
 * (docs/decisions/0017). docs/model.md maps each step to its code.
 *
 * Each of the two masters has a replica, which may be promoted, with older data; the old master lives on, for less than a lease
 * in which nodes reach it (the assumption of docs/decisions/0011). One write is made. Node 0 joins; node 1 has joined, and settles.
 * Announcements are left out, and the nodes of the list apply the write at once: what is checked is that a node which
 * is missing from the list never calls facts fresh that lack a write which was answered `all`, and that the Partition still has.
 *
 * Faults: REGISTRY_FAILOVERS, PARTITION_FAILOVERS, at most 1 each. Ages and ticks as in acknowledged.pml.
 */
#ifndef REGISTRY_FAILOVERS
#define REGISTRY_FAILOVERS 0
#endif
#ifndef PARTITION_FAILOVERS
#define PARTITION_FAILOVERS 0
#endif
#define MOST_JOINS 3
#define TRUSTED 1
#define GRACE 1
#define LEASE 2

typedef List {
  bit up; byte id; byte incarnation; byte markerId; bit settled; byte joins;
  bit listed[2]; bit unseen[2]                     /* the beat moved since the other node saw it */
}

typedef Slot {
  bit up; byte id; bit written;
  byte markId; bit settled; byte incarnation; byte number; byte nonce   /* the mark; the nonce is new in each one that replaces another */
}

typedef Node {
  byte registry; byte partition; byte linkId;      /* which server of the two each connection reaches; the Partition's id */
  byte incarnation; byte number;                   /* as the last renewal answered */
  bit marking;                                     /* the lease is renewed, the Partition not marked yet */
  byte pendingAge; byte renewedAge;                /* since that renewal; since the one that counts */
  byte renewedOn;                                  /* the run of the Partition's server that took the mark */
  byte watched; byte watchedAge; byte otherAge;    /* as in acknowledged.pml */
  byte seenId; byte seenIncarnation; byte seenNonce; byte seenAge;   /* an unsettled mark, and for how long it was seen */
  byte stampAge; bit has
}

List r[2]; Slot p[2]; Node n[2];
byte registryAt = 0, partitionAt = 0;               /* the masters, as the Cluster names them */
byte newestId = 2, newestIncarnation = 1, newestNonce = 1;
byte sinceRegistry = LEASE, sincePartition = LEASE; /* since the failover; the old master dies before a lease is over */

byte phase = 0;      /* of the writer: 0 nothing read, 1 written, 2 its mark is read, 3 proven, 4 over */
bit read; byte readIncarnation; bit readComplete; byte readJoins; bit readListed[2];
byte markNumber; byte markIncarnation; bit markCounts; byte wroteOn;
bit again; bit acknowledged;

#define other(x) (1 - x)
#define watches(x) (x == 1)   /* node 1 settles, and removes the dead; node 0 is the one whose freshness is checked */
#define fresh(x) (n[x].stampAge <= GRACE)

inline check() {
  assert(!(acknowledged && p[partitionAt].written && fresh(0) && !n[0].has))
}

inline older(years, most) { years = (years < most -> years + 1 : most) }

inline take_lease(x, where) {
  if
  :: r[where].markerId != r[where].id ->
       r[where].listed[0] = 0; r[where].listed[1] = 0; r[where].joins = 0;
       newestIncarnation++; r[where].incarnation = newestIncarnation; r[where].markerId = r[where].id; r[where].settled = 0
  :: else ->
       if :: n[x].watched == r[where].incarnation && n[x].watchedAge >= LEASE -> r[where].settled = 1 :: else fi
  fi;
  if
  :: !watches(x)
  :: watches(x) && r[where].listed[other(x)] && !r[where].unseen[other(x)] ->
       if :: n[x].otherAge >= LEASE -> r[where].listed[other(x)] = 0; n[x].otherAge = 0 :: else fi
  :: else -> n[x].otherAge = 0; r[where].unseen[other(x)] = 0
  fi;
#ifdef JOINED_ONCE
  if :: !r[where].listed[x] && n[x].number == 0 -> r[where].joins++ :: else fi;
#else
  if :: !r[where].listed[x] -> r[where].joins++ :: else fi;
#endif
  r[where].listed[x] = 1; r[where].unseen[x] = 1;
  if :: watches(x) && n[x].watched != r[where].incarnation -> n[x].watched = r[where].incarnation; n[x].watchedAge = 0 :: else fi;
  n[x].incarnation = r[where].incarnation; n[x].number = r[where].joins; n[x].marking = 1; n[x].pendingAge = 0
}

#ifdef MARK_WITHOUT_NONCE
#define same_nonce(x, where) 1
#else
#define same_nonce(x, where) (n[x].seenNonce == p[where].nonce)
#endif

/* lua/join.lua and Joining.mark */
inline mark(x, where) {
  if
#ifdef MARK_WITHOUT_INCARNATION
  :: p[where].markId != p[where].id ->
#else
  :: p[where].markId != p[where].id || p[where].incarnation != n[x].incarnation ->
#endif
       newestNonce++; p[where].markId = p[where].id; p[where].incarnation = n[x].incarnation; p[where].settled = 0;
       p[where].number = n[x].number; p[where].nonce = newestNonce
  :: else ->
       if
       :: (!p[where].settled && n[x].seenId == p[where].id && n[x].seenIncarnation == p[where].incarnation && same_nonce(x, where)
            && n[x].seenAge >= LEASE) -> p[where].settled = 1
       :: else
       fi;
       if :: p[where].number < n[x].number -> p[where].number = n[x].number :: else fi
  fi;
  if
  :: !watches(x)
  :: watches(x) && p[where].settled -> n[x].seenId = 0; n[x].seenIncarnation = 0; n[x].seenNonce = 0; n[x].seenAge = 0
  :: watches(x) && !p[where].settled && (n[x].seenId != p[where].id || n[x].seenIncarnation != p[where].incarnation || !same_nonce(x, where)) ->
       n[x].seenId = p[where].id; n[x].seenIncarnation = p[where].incarnation; n[x].seenNonce = p[where].nonce; n[x].seenAge = 0
  :: else
  fi;
  n[x].marking = 0; n[x].renewedAge = n[x].pendingAge; n[x].pendingAge = 0; n[x].renewedOn = p[where].id
}

proctype Replicator(byte x) {
end:
  do
  :: atomic { (n[x].registry != registryAt && r[registryAt].up) -> n[x].registry = registryAt }
  :: atomic { (n[x].partition != partitionAt && p[partitionAt].up) -> n[x].partition = partitionAt; n[x].linkId = p[partitionAt].id;
       n[x].has = n[x].has && p[partitionAt].written }
  :: atomic { (r[n[x].registry].up && (n[x].renewedAge > 0 || n[x].renewedOn != n[x].linkId) && !n[x].marking
         && (r[n[x].registry].listed[x] || r[n[x].registry].joins < MOST_JOINS)) ->
       take_lease(x, n[x].registry) }
#ifdef HEADS_BEFORE_MARK
  :: atomic { (n[x].marking && n[x].pendingAge == 0 && p[n[x].partition].up) ->
       n[x].stampAge = 0; n[x].has = p[n[x].partition].written; check() }
#endif
  :: atomic { (n[x].marking && p[n[x].partition].up) -> mark(x, n[x].partition) }
  :: atomic {   /* heads, and everything up to them is applied */
       (x == 0 && n[x].renewedAge < TRUSTED && n[x].renewedOn == n[x].linkId && p[n[x].partition].up && (n[x].stampAge > 0 || n[x].has != p[n[x].partition].written)) ->
       n[x].stampAge = 0; n[x].has = p[n[x].partition].written; check()
     }
  od
}

#ifdef MARK_WITHOUT_SERVER_ID
#define mark_counts(where) (p[where].settled)
#else
#ifdef MARK_NOT_SETTLED
#define mark_counts(where) (p[where].markId == p[where].id)
#else
#define mark_counts(where) (p[where].settled && p[where].markId == p[where].id)
#endif
#endif
#ifdef NUMBERS_NOT_COMPARED
#define number_proves 1
#else
#define number_proves (markNumber <= readJoins)
#endif
#ifdef MARK_WITHOUT_INCARNATION
#define incarnation_proves 1
#else
#define incarnation_proves (markIncarnation == readIncarnation)
#endif
#define proven (markCounts && read && readComplete && number_proves && incarnation_proves)

inline read_registry(where) {
  read = 1; readIncarnation = r[where].incarnation; readComplete = (r[where].settled && r[where].markerId == r[where].id);
  readJoins = r[where].joins; readListed[0] = r[where].listed[0]; readListed[1] = r[where].listed[1]
}

proctype Writer() {
  byte where = 0;   /* the registry's server; the writer may be late to follow a failover, as a node may */
  byte to = 0;
end:
  do
  :: atomic { (where != registryAt) -> where = registryAt }
  :: atomic { (to != partitionAt && phase == 0) -> to = partitionAt }
  :: atomic { (!read && phase < 3 && r[where].up) -> read_registry(where) }
  :: atomic { (phase == 0 && p[to].up) -> p[to].written = 1; wroteOn = p[to].id; phase = 1 }
  :: atomic { (phase == 1 && p[to].up) -> markCounts = mark_counts(to) && p[to].id == wroteOn; markNumber = p[to].number;
       markIncarnation = p[to].incarnation; phase = 2 }
  :: atomic { (phase == 2 && read && proven) -> phase = 3 }
  :: atomic { (phase == 2 && read && !proven && !again && r[where].up) -> again = 1; read_registry(where) }   /* RecentRegistry.fresh */
  :: atomic {   /* those of the list have it, and are announced at the server that took it */
       (phase == 3 && (!readListed[0] || (n[0].has && n[0].linkId == wroteOn)) && (!readListed[1] || n[1].linkId == wroteOn))
       -> phase = 4; acknowledged = 1; check()
     }
  :: atomic { (phase > 0 && phase < 4) -> phase = 4 }
  od
}

proctype World() {
end:
  do
  :: atomic {
       ((registryAt == 0 || !r[0].up || sinceRegistry < LEASE - 1) && (partitionAt == 0 || !p[0].up || sincePartition < LEASE - 1)) ->
       if :: n[0].marking -> older(n[0].pendingAge, TRUSTED) :: else fi;
       older(n[0].renewedAge, TRUSTED); older(n[0].stampAge, GRACE + 1);
       if :: n[1].marking -> older(n[1].pendingAge, TRUSTED) :: else fi;
       older(n[1].renewedAge, TRUSTED); older(n[1].watchedAge, LEASE); older(n[1].otherAge, LEASE);
       if :: n[1].seenId != 0 -> older(n[1].seenAge, LEASE) :: else fi;
       older(sinceRegistry, LEASE); older(sincePartition, LEASE)
     }
#if REGISTRY_FAILOVERS > 0
  :: atomic { (registryAt == 0 && !r[1].up) ->   /* promoted with what it had at the start: every later entry is lost */
       r[1].up = 1; newestId++; r[1].id = newestId; registryAt = 1; sinceRegistry = 0 }
  :: atomic { (registryAt == 1 && r[0].up) -> r[0].up = 0 }
#endif
#if PARTITION_FAILOVERS > 0
  :: atomic {
       (partitionAt == 0 && !p[1].up) ->
       if   /* promoted in step with the master; or with what it had at the start: every later mark is lost, and the write */
       :: p[1].markId = p[0].markId; p[1].settled = p[0].settled; p[1].incarnation = p[0].incarnation; p[1].number = p[0].number;
          p[1].nonce = p[0].nonce; p[1].written = p[0].written
       :: p[1].markId = 2; p[1].settled = 1; p[1].incarnation = 1; p[1].number = 1; p[1].nonce = 1
       fi;
       p[1].up = 1; newestId++; p[1].id = newestId; partitionAt = 1; sincePartition = 0
     }
  :: atomic { (partitionAt == 1 && p[0].up) -> p[0].up = 0 }
#endif
  od
}

init {
  atomic {
    r[0].up = 1; r[0].id = 1; r[0].incarnation = 1; r[0].markerId = 1; r[0].settled = 1; r[0].joins = 1; r[0].listed[1] = 1; r[0].unseen[1] = 1;
    r[1].incarnation = 1; r[1].markerId = 1; r[1].settled = 1; r[1].joins = 1; r[1].listed[1] = 1;
    p[0].up = 1; p[0].id = 2; p[0].markId = 2; p[0].settled = 1; p[0].incarnation = 1; p[0].number = 1; p[0].nonce = 1;
    n[0].linkId = 2; n[0].renewedAge = TRUSTED; n[0].stampAge = GRACE + 1; n[1].stampAge = GRACE + 1;
    n[1].linkId = 2; n[1].renewedOn = 2; n[1].incarnation = 1; n[1].number = 1; n[1].watched = 1;
    run Replicator(0); run Replicator(1); run Writer(); run World()
  }
}
