/*
 * The life of one task, for the model checker spin: workers, two cancellers, a rescuer, ghosts of
 * runs that were fenced, a wrapper with its spool. A process may die between any two steps.
 * What is one transaction of the store is one atomic step.
 *
 * Two models: a task of a registered op, which any of the WORKERS may run; and, with WRAPPER
 * defined, a command under tapescope run, which its wrapper alone runs.
 *
 * Each of these leaves out one rule, and then spin must find what breaks:
 *   STATUS_AND_FINAL_APART  the end is two transactions: first the status, then the final
 *   NO_FENCING              a write is not asked whose attempt it is
 *   NO_SHIELD               a cancel from outside may hit the write of the final
 *   NO_IDENTITY             a write whose reply was lost is taken for a new one
 *   CLAIM_NOT_ASKED         a claim trusts what was read before it
 *   CANCEL_NOT_ASKED        a retry does not ask whether a cancel is on record
 *   LATE_UNCOUNTED          what comes too late is not counted
 *   RESCUE_BY_LEASE         a lease alone ends the task of a wrapper (with WRAPPER)
 *   SPOOL_NOT_ASKED         the rescuer does not ask whether a dead wrapper left a spool (with WRAPPER)
 */

#define WORKERS 2
#define RETRIES 1
#define PAUSES 1	/* how often an owner that lives is so late that its lease ends */

#define NOBODY 0
#define terminal(s) (s == succeeded || s == failed || s == cancelled)

mtype = { pending, running, succeeded, failed, cancelled };

/* The task's row. */
mtype status = pending;
byte attempt = 0;
byte owner = NOBODY;
bool lease_over = false;
bool cancel_on_record = false;
byte retries_spent = 0;

/* Its tape: how many finals, what the final says, and how often each attempt's report stands there. */
byte finals = 0;
mtype said;
byte reports[RETRIES + 2] = 0;

/* The counters of I7. A report and an end are offers; a rescuer's and a canceller's final is none. */
byte offered = 0, stored = 0, dropped = 0;

/* The processes. The world is told by them, the store does not see it. */
bool alive[WORKERS + 1] = true;
bool renews[WORKERS + 1] = false;	/* its heartbeat extends the lease of the task */
byte pauses = 0;
byte deaths = 0;			/* how many may still die, at any step of theirs */
bool died = false;			/* one of them did: then the fate of an offer may be unknown */

/* The spool of the wrapper, and how the command ended. */
bool spooled = false;
bool claimed = false;			/* the attempt that the spool names was the task's */
mtype truth;

#ifdef NO_FENCING
#define is_owned(by, n) (status == running)
#else
#define is_owned(by, n) (status == running && attempt == n && owner == by)
#endif

#define OR_DIE(who) :: atomic { deaths > 0 -> deaths--; alive[who] = false; died = true; goto gone }

/* Every event: behind no final (I1, I4), and of the attempt that is the task's (I5). */
inline put(n)
{
	assert(finals == 0);
	assert(n == attempt)
}

inline put_final(n, outcome)
{
	put(n);
	said = outcome;
	finals++;
	status = outcome;
	owner = NOBODY
}

inline free_for_a_retry()
{
	retries_spent++;
	status = pending;
	owner = NOBODY;
	lease_over = false
}

inline count_late()
{
#ifdef LATE_UNCOUNTED
	skip
#else
	dropped++
#endif
}

inline claim(by)
{
	assert(!cancel_on_record);	/* a cancel on record lets no attempt begin */
	attempt++;
	status = running;
	owner = by;
	lease_over = false;
	renews[by] = true
}

/* A run writes its final. */
inline end_run(by, n, outcome)
{
	offered++;
	if
	:: is_owned(by, n) -> put_final(n, outcome); stored++
	:: else -> count_late()
	fi
}

/* A run gives its task up: to another attempt, or, where none is left, for good. */
inline give_up(by, n)
{
	offered++;
	if
	:: is_owned(by, n) ->
		stored++;
		if
#ifndef CANCEL_NOT_ASKED
		:: cancel_on_record -> put_final(n, cancelled)
		:: !cancel_on_record && retries_spent < RETRIES -> put(n); free_for_a_retry()
		:: !cancel_on_record && retries_spent == RETRIES -> put_final(n, failed)
#else
		:: retries_spent < RETRIES -> put(n); free_for_a_retry()
		:: retries_spent == RETRIES -> put_final(n, failed)
#endif
		fi
	:: else -> count_late()
	fi
}

#ifndef WRAPPER

/* A runner that was fenced goes on, and reports once more whenever it likes. */
proctype Ghost(byte me; byte mine)
{
	if
	:: atomic {
		alive[me] ->
		offered++;
		if
		:: is_owned(me, mine) -> put(mine); stored++
		:: else -> count_late()
		fi
	   }
	:: !alive[me]
	fi
}

proctype Worker(byte me)
{
	byte mine;
	mtype outcome;
	bool unanswered;

idle:
	unanswered = false;
	if
#ifdef CLAIM_NOT_ASKED
	:: status == pending ->
		if
		:: atomic { claim(me); mine = attempt }
		OR_DIE(me)
		fi
#else
	:: atomic { status == pending -> claim(me); mine = attempt }
#endif
	:: terminal(status) -> goto gone
	OR_DIE(me)
	fi;

	/* The runner reports, or does not. The reply may be lost: then the same is sent again. */
	if
	:: atomic {
		offered++;
		if
		:: is_owned(me, mine) ->
			put(mine);
			stored++;
			reports[mine]++;
			if :: unanswered = true :: skip fi
		:: else -> count_late()
		fi
	   }
	:: skip
	OR_DIE(me)
	fi;
	if
	:: atomic {
		unanswered ->
#ifdef NO_IDENTITY
		if
		:: is_owned(me, mine) -> put(mine); reports[mine]++
		:: else -> count_late()
		fi
#else
		if
		:: reports[mine] > 0	/* the store knows it, and answers as it did */
		fi
#endif
	   }
	:: !unanswered
	OR_DIE(me)
	fi;

	if
	:: outcome = succeeded
	:: outcome = failed
	:: atomic { cancel_on_record && is_owned(me, mine) -> outcome = cancelled }
	:: atomic {	/* told of the cancel it goes on: it is fenced after its grace */
		cancel_on_record && is_owned(me, mine) -> outcome = cancelled; run Ghost(me, mine)
	   }
	:: atomic {	/* its heartbeat says that the task is its own no longer */
		!is_owned(me, mine) -> renews[me] = false; goto idle
	   }
	:: atomic {	/* the store is away past all patience: the run is lost, and so is its lease */
		renews[me] = false; goto idle
	   }
	OR_DIE(me)
	fi;

	if
#ifdef STATUS_AND_FINAL_APART
	:: atomic { outcome != failed && is_owned(me, mine) -> status = outcome; offered++ };
		if
		:: atomic { said = outcome; finals++; stored++ }
		OR_DIE(me)
		fi
	:: atomic { outcome == failed || !is_owned(me, mine) -> give_up(me, mine) }
#else
	:: atomic { outcome == failed -> give_up(me, mine); renews[me] = false }
	:: atomic { outcome != failed -> end_run(me, mine, outcome); renews[me] = false }
#endif
#ifdef NO_SHIELD
	:: skip	/* nothing is written, and its owner lives on */
#endif
	OR_DIE(me)
	fi;
	goto idle;
gone:
	skip
}

#define may_rescue (status == running && lease_over)

#else

/* tapescope run: a command's fate is its own, and the store may be away at any step of it. */
proctype Wrapper(byte me)
{
	if
	:: atomic { status == pending -> claim(me); claimed = true }
	:: skip		/* the store is away: the command runs all the same */
	:: terminal(status) -> goto gone	/* it was cancelled before its command began */
	OR_DIE(me)
	fi;
	if
	:: truth = succeeded
	:: truth = failed
	:: atomic { claimed && cancel_on_record -> truth = cancelled }
	OR_DIE(me)
	fi;
	if
	:: atomic { claimed -> end_run(me, 1, truth); assert(said == truth) }
	:: spooled = true
	OR_DIE(me)
	fi;
gone:
	alive[me] = false	/* it ends as its command did, or it was killed */
}

/* Every later command of this user brings what is spooled to the store, and may die over it. */
proctype Replay()
{
	do
	:: atomic { spooled && !claimed && status == pending -> claim(1); claimed = true }
	:: atomic {
		spooled && (claimed || terminal(status)) ->
		if
		:: claimed && finals == 1 && said == truth	/* by one that died before it removed the file */
		:: else -> end_run(1, 1, truth)
		fi;
		assert(!claimed || said == truth);
		if
		:: spooled = false	/* the file is removed */
		:: claimed
		fi
	   }
	:: atomic { terminal(status) && !spooled && !alive[1] -> break }
	od
}

/* By proof that its wrapper is dead, running or not; its owner alone could run it. */
#ifdef SPOOL_NOT_ASKED
#define is_lost (!alive[1])
#else
#define is_lost (!alive[1] && !spooled)
#endif
#ifdef RESCUE_BY_LEASE
#define may_rescue (is_lost || (status == running && lease_over && !spooled))
#else
#define may_rescue is_lost
#endif

#endif

proctype Rescuer()
{
end:	do
	:: atomic {
		!terminal(status) && may_rescue ->
		if
		:: cancel_on_record -> put_final(attempt, cancelled)
#ifndef WRAPPER
		:: !cancel_on_record && retries_spent < RETRIES -> put(attempt); free_for_a_retry()
		:: !cancel_on_record && retries_spent == RETRIES -> put_final(attempt, failed)
#else
		:: !cancel_on_record -> put_final(attempt, failed)
#endif
		fi
	   }
	od
}

proctype Canceller()
{
	atomic {
		if
		:: status == pending -> cancel_on_record = true; put_final(attempt, cancelled)
		:: status == running -> cancel_on_record = true
		:: terminal(status)	/* it comes too late, and is told so */
		fi
	}
}

/* A lease ends where nobody renews it, and now and then under an owner that is only late. */
proctype Clock()
{
end:	do
	:: atomic {
		status == running && !lease_over && !(alive[owner] && renews[owner]) -> lease_over = true
	   }
	:: atomic {
		status == running && !lease_over && pauses < PAUSES -> lease_over = true; pauses++
	   }
	:: atomic {
		status == running && lease_over && alive[owner] && renews[owner] -> lease_over = false
	   }
	od
}

/* Another session looks, at any moment: I1 and I2. */
proctype Session()
{
	atomic {
		assert(finals <= 1);
		assert(terminal(status) == (finals == 1));
		assert(finals == 0 || said == status)
	}
}

/* When nothing more can happen: no task is left, no event is lost. */
proctype Rest()
{
	timeout ->
#ifndef WRAPPER
	/* What waits for a worker waits; the backlog has it. */
	assert(terminal(status) || (status == pending && !alive[1] && !alive[2]));
#else
	assert(terminal(status));
	assert(!spooled);
#endif
	assert(reports[1] <= 1 && reports[2] <= 1);
	assert(died || offered == stored + dropped)
}

init
{
	atomic {
		if :: deaths = 0 :: deaths = 1 :: deaths = WORKERS fi;
#ifndef WRAPPER
		run Worker(1);
		run Worker(2);
#else
		run Wrapper(1);
		run Replay();
#endif
		run Canceller();
		run Canceller();
		run Rescuer();
		run Clock();
		run Session();
		run Rest()
	}
}
