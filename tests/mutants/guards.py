"""The guards: what is taken away, and where that must be noticed."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Guard:
    """``before`` stands once in ``file``; with ``after`` in its place one of ``tests`` fails."""

    name: str
    file: str
    before: str
    after: str
    tests: tuple[str, ...]


CLAIM = "tests/scripts/test_claim.py"
CONTROL = "tests/scripts/test_control.py"
MISFIRE = "tests/scripts/test_misfire.py"
PARKING = "tests/scripts/test_parking.py"
PLANS = "tests/scripts/test_plans.py"
SAVE = "tests/scripts/test_save.py"
SETTLE = "tests/scripts/test_settle.py"
WORKERS = "tests/scripts/test_workers.py"
OVERLAP = "tests/scripts/test_overlap.py"
RUNS = "tests/scripts/test_runs.py"
BACKFILL = "tests/scripts/test_backfill.py"
SIGNING = "tests/scripts/test_signing.py"
CLUSTER = "tests/integration/test_cluster.py"
FAULTS = "tests/integration/test_faults.py"
REPLICAS = "tests/integration/test_replicas.py"
MODELS = "tests/integration/test_models.py"
WORKER = "tests/integration/test_worker.py"


def _lua(name: str, file: str, before: str, after: str, *tests: str) -> Guard:
    return Guard(f"{file}: {name}", f"lua/{file}.lua", before, after, tests)


def _python(name: str, file: str, before: str, after: str, *tests: str) -> Guard:
    return Guard(f"{file}: {name}", f"sisy_redis/{file}.py", before, after, tests)


GUARDS = (
    # 1: bounds
    _lua("at most a hundred elements", "claim", "math.min(100, wanted + 16)", "wanted + 1000", CLAIM),
    _lua(
        "no more than the free slots",
        "claim",
        "if #claim.grants >= wanted then",
        "if #claim.grants >= wanted + 1 then",
        CLAIM,
    ),
    _lua("a hundred attempts a batch", "reap", "if taken == 100 then", "if taken == 1000 then", WORKERS),
    _lua("ten dead workers an answer", "renew", "'LIMIT', 0, 10)) do", "'LIMIT', 0, 1000)) do", WORKERS),
    # 2: nothing drops out, nothing unreadable is deleted
    _lua(
        "an unreadable task or plan is parked",
        "lib/claim_task",
        "    park(c.due_key, claim.keys.quarantine, id, unreadable .. ' cannot be read')",
        "    redis.call('ZREM', c.due_key, id)",
        PARKING,
    ),
    _lua(
        "counts are read before the first write",
        "lib/claim_task",
        "(not string.match(claim.column.remaining[id] or '0', '^%d+$') and 'the number of its iterations left')",
        "nil",
        PARKING,
    ),
    _lua(
        "a waiting run of an unreadable task stays",
        "lib/claim_run",
        "if (claim.column.plan[c.id] and not plan) or (is_current and (not task or not run)) then",
        "if false then",
        PARKING,
    ),
    _lua(
        "a plan is read to its last byte",
        "lib/plan",
        "        return nil\n      end\n    end\n    segments",
        "        break\n      end\n    end\n    segments",
        PARKING,
    ),
    _lua(
        "an unreadable generation is no other task",
        "lib/endings",
        "return not found or (found ~= '' and found ~= generation)",
        "return not found or found ~= generation",
        PARKING,
    ),
    _lua(
        "an unreadable task is reported at its last end",
        "lib/endings",
        "if not task or not plan then",
        "if false then",
        PARKING,
    ),
    _lua(
        "an unreadable attempt of a dead worker is kept",
        "reap",
        "    redis.call('HSET', quarantine, id or run,",
        "    local _ = ({",
        PARKING,
    ),
    _lua(
        "an unreadable record exists",
        "save",
        "if task or redis.call('HEXISTS', tasks, s.id) == 1 then",
        "if task then",
        SAVE,
    ),
    _lua(
        "an ended task with an open run is not removed",
        "lib/claim_task",
        "if open_of(claim, id).count == 0 and not is_awaited(keys, id) then",
        "if true then",
        CLAIM,
    ),
    _lua(
        "an ended task is removed with its last run",
        "lib/endings",
        "elseif is_exhausted(plan) and not is_awaited(keys, id) then",
        "elseif false then",
        SETTLE,
        CLAIM,
    ),
    # 3: the server's clock
    _lua(
        "a lease that has not run out is not reaped",
        "reap",
        "(deadline > now or now < quiet_until)",
        "(now < quiet_until)",
        WORKERS,
    ),
    _lua(
        "nothing is reaped in the quiet time",
        "reap",
        "(deadline > now or now < quiet_until)",
        "deadline > now",
        WORKERS,
    ),
    _lua(
        "nothing is named in the quiet time",
        "renew",
        "if now >= tonumber(redis.call('HGET', meta, 'quiet_until') or '0') then",
        "if true then",
        WORKERS,
    ),
    _lua("a step back is a jump", "renew", "if now < seen - 1000 or", "if", WORKERS),
    _lua("a step forward is a jump", "renew", " or now > seen + shortest then", " then", WORKERS),
    _lua(
        "the longest lease is waited for",
        "renew",
        "'quiet_until', int(now + longest)",
        "'quiet_until', int(now + lease)",
        WORKERS,
    ),
    _lua(
        "the shortest lease says what a jump is",
        "renew",
        "now > seen + shortest then",
        "now > seen + lease then",
        WORKERS,
    ),
    _lua(
        "a deadline far ahead is pulled in",
        "renew",
        "redis.call('ZADD', leases, 'LT', now + theirs, other)",
        "local _ = other",
        WORKERS,
    ),
    _lua(
        "a plan made by a clock ahead is refused",
        "lib/adopt",
        "if not segments or planned_from > after then",
        "if not segments then",
        SAVE,
    ),
    _lua(
        "instants up to now are dropped",
        "lib/adopt",
        "drop(segments, count_until(segments, after))",
        "local _ = after",
        SAVE,
    ),
    _lua(
        "instants up to the cursor are dropped",
        "save",
        "local after = math.max(now, old and old.cursor or 0)",
        "local after = now",
        SAVE,
    ),
    _lua("numbers follow the clock", "lib/sequence", "math.max(last + 1, now * 1000)", "last + 1", WORKERS),
    _lua("numbers never go back", "lib/sequence", "math.max(last + 1, now * 1000)", "now * 1000", WORKERS, CLAIM),
    # 4: admitted once
    _lua(
        "the cursor follows what was decided",
        "lib/claim_task",
        "plan.cursor = math.max(plan.cursor, nominal)",
        "local _ = nominal",
        CLAIM,
        PLANS,
    ),
    _lua(
        "what was decided leaves the plan",
        "lib/claim_task",
        "local nominal = drop(plan.segments, 1)",
        "local nominal = plan.segments[1][1]",
        CLAIM,
    ),
    _lua(
        "an unregistered or dead boot is refused",
        "claim",
        "'^up (%d+) (%d+) (.*)$')",
        "'^%l+ (%d+) (%d+) (.*)$')",
        WORKERS,
    ),
    _lua(
        "only the last seq and the next are heard",
        "claim",
        "if tonumber(seq) ~= tonumber(last_seq) + 1 then",
        "if false then",
        CLAIM,
    ),
    _lua("a repeated claim grants nothing new", "claim", "if seq == last_seq then", "if false then", CLAIM),
    _lua(
        "a repeated claim gives only its own",
        "lib/grant",
        "if run and run.seq == claim.seq then",
        "if run then",
        CLAIM,
    ),
    _lua(
        "a repeated claim gives no other task's code",
        "lib/grant",
        "local record = not is_orphan(claim.keys, held[i]) and redis",
        "local record = redis",
        CLAIM,
    ),
    _lua(
        "a replan needs the cursor it was made for", "replan", "   or int(column.cursor) ~= cursor or", "   or", PLANS
    ),
    _lua(
        "a replan replaces no plan",
        "replan",
        " or column.segments[1] or column.complete then",
        " or column.complete then",
        PLANS,
    ),
    _lua(
        "a replan keeps an ended task ended",
        "replan",
        " or column.segments[1] or column.complete then",
        " or column.segments[1] then",
        PLANS,
    ),
    _lua(
        "an extension starts where it was made for", "extend", "\n     and int(last) == plan_end then", " then", PLANS
    ),
    _lua("an extension is of the schedule's version", "extend", " and column.version == version\n", "\n", PLANS),
    _lua(
        "an extension keeps an ending plan ending",
        "extend",
        "if last and not column.complete and",
        "if last and",
        PLANS,
    ),
    _lua(
        "a task that was planned is not postponed", "postpone", "redis.call('HGET', plan, id) ~= column or", "", PARKING
    ),
    # 5: no overlap, tokens
    _lua(
        "an open run keeps others out",
        "lib/open",
        "return task.overlap ~= 'allow' and open.count >= task.running",
        "return false",
        CLAIM,
    ),
    _lua(
        "runs of one claim count too",
        "lib/claim_task",
        "  count_in(open, int(nominal))\n",
        "",
        CLAIM,
    ),
    _lua(
        "an open run keeps a trigger out",
        "trigger",
        "if is_full(task, runs_open) then",
        "if false then",
        CONTROL,
    ),
    _lua(
        "only the token's holder ends an attempt",
        "settle",
        "attempt.token == token and not gone[run]",
        "not gone[run]",
        SETTLE,
    ),
    _lua(
        "twice in one call counts once",
        "settle",
        "attempt.token == token and not gone[run]",
        "attempt.token == token",
        SETTLE,
    ),
    _lua(
        "only the token's holder marks a start",
        "start",
        "if not attempt or attempt.token ~= token then",
        "if not attempt then",
        WORKERS,
        SETTLE,
    ),
    _lua(
        "only the token's holder saves",
        "save",
        "if not attempt or attempt.token ~= s.token then",
        "if not attempt then",
        SAVE,
    ),
    _lua(
        "a run that ended saves nothing",
        "save",
        "if not attempt or attempt.token ~= s.token then",
        "if attempt and attempt.token ~= s.token then",
        SAVE,
        MODELS,
    ),
    _lua(
        "a dead boot is not renewed",
        "renew",
        "string.match(record, '^up (%d+) ')",
        "string.match(record, '^%l+ (%d+) ')",
        WORKERS,
    ),
    _lua(
        "a boot is dead before its attempts go",
        "reap",
        "redis.call('HSET', workers, boot, 'dead ' .. rest)",
        "local _ = rest",
        WORKERS,
    ),
    _lua("a retry waits for its time", "settle", "local at = now + tonumber(delay_ms)", "local at = now", SETTLE),
    # 6: iterations, endings
    _lua(
        "each admitted run costs an iteration",
        "lib/claim_task",
        "local left = tonumber(remaining[id]) - 1",
        "local left = tonumber(remaining[id])",
        CLAIM,
    ),
    _lua(
        "the last iteration ends the plan",
        "lib/claim_task",
        "    if left <= 0 then\n      plan.segments",
        "    if false then\n      plan.segments",
        CLAIM,
    ),
    _lua(
        "a trigger that counts costs an iteration",
        "trigger",
        "local left = counts == '1' and",
        "local left = false and",
        CONTROL,
    ),
    _lua("a spent task is not triggered", "trigger", "if is_exhausted(column) then", "if false then", CONTROL),
    _lua("used iterations stay used", "save", "left = math.max(0, (left or", "left = math.max(0, (nil or", SAVE),
    _lua(
        "a first loss is free",
        "reap",
        "local is_lost, is_gone = attempt.losses > attempt.redeliveries",
        "local is_lost, is_gone = attempt.losses >= attempt.redeliveries",
        WORKERS,
    ),
    _lua(
        "an unstarted loss costs nothing",
        "reap",
        "local is_counted = attempt.losses == 0 or attempt.started == '1'",
        "local is_counted = true",
        WORKERS,
    ),
    # 7: repeated calls
    _lua("a repeated registration gives the same boot", "register", "if known then", "if false then", WORKERS),
    _lua("a repeated trigger gives the same run", "trigger", "if known then", "if false then", CONTROL),
    _lua(
        "a repeated pause changes nothing",
        "pause",
        "if redis.call('HEXISTS', replies, op) == 1 then",
        "if false then",
        CONTROL,
    ),
    _lua(
        "a repeated resume changes nothing",
        "resume",
        "if redis.call('HEXISTS', replies, op) == 1 then",
        "if false then",
        CONTROL,
    ),
    _lua("a repeated save is recognised", "save", "  if task.op == s.op then", "  if false then", SAVE),
    _lua(
        "a repeated creation is recognised", "save", "if task and task.created_op == s.op then", "if false then", SAVE
    ),
    _lua(
        "a late creation brings no removed task back",
        "lib/removal",
        "      if not is_expired(op, now) then",
        "      if false then",
        SAVE,
    ),
    _lua(
        "a creation from long ago is refused",
        "save",
        "return is_expired(s.op, now) and {'expired'} or nil",
        "return nil",
        SAVE,
    ),
    _lua("a trigger from long ago is refused", "trigger", "if is_expired(op, now) then", "if false then", CONTROL),
    _lua("a deletion from long ago is refused", "delete", "if is_expired(op, now) then", "if false then", CONTROL),
    _lua("a pause from long ago is refused", "pause", "if is_expired(op, now) then", "if false then", CONTROL),
    _lua("a resume from long ago is refused", "resume", "if is_expired(op, now) then", "if false then", CONTROL),
    # generations and versions
    _lua(
        "a run of another generation touches nothing",
        "lib/endings",
        "  if is_orphan(keys, run) then\n    return\n  end\n",
        "",
        SETTLE,
    ),
    _lua(
        "a run of another generation is not given back",
        "settle",
        "  if is_ours and is_orphan(keys, run) then",
        "  if false then",
        SETTLE,
    ),
    _lua("a run of another generation is not redelivered", "reap", ", is_orphan(keys, run)\n", ", false\n", WORKERS),
    _lua(
        "a waiting run of another generation is not granted",
        "lib/claim_run",
        "local is_current = plan and plan.generation == generation",
        "local is_current = plan",
        CLAIM,
        WORKERS,
    ),
    _lua(
        "a save means its generation",
        "save",
        "if not task or task.generation ~= s.generation then",
        "if not task then",
        SAVE,
    ),
    _lua(
        "a save means its version",
        "save",
        "return task.version ~= s.version and {'conflict'} or nil",
        "return nil",
        SAVE,
    ),
    _lua(
        "a deletion means its generation",
        "delete",
        "if not task or task.generation ~= generation then",
        "if not task then",
        CONTROL,
    ),
    _lua(
        "a trigger means its generation",
        "trigger",
        "if not task or not column or task.generation ~= generation then",
        "if not task or not column then",
        CONTROL,
    ),
    _lua(
        "a pause means its generation",
        "pause",
        "if not task or not column or task.generation ~= generation then",
        "if not task or not column then",
        CONTROL,
    ),
    _lua(
        "a resume means its generation",
        "resume",
        "if not task or not column or task.generation ~= generation then",
        "if not task or not column then",
        CONTROL,
    ),
    # holding, queues, routing
    _lua(
        "a paused task's edit leaves it paused",
        "save",
        "elseif task.enabled ~= 1 or pause then",
        "elseif task.enabled ~= 1 then",
        CONTROL,
        SAVE,
    ),
    _lua(
        "a held task ends at its end",
        "lib/task",
        "return task['end'] > 0 and int(task['end']) or '+inf'",
        "return '+inf'",
        CONTROL,
    ),
    _lua(
        "resuming a disabled task leaves it disabled",
        "resume",
        "elseif task.enabled == 1 or is_exhausted(column) then",
        "else",
        CONTROL,
    ),
    _lua("an undecided one-off stays", "lib/missed", "  if plan.beside then", "  if false then", CONTROL, MODELS),
    _lua(
        "a run waits where its task was moved to",
        "settle",
        "  if needs_queue and not queue then",
        "  if false then",
        SETTLE,
    ),
    _lua(
        "a dead worker's run waits where its task was moved to",
        "reap",
        "attempt.queue = task and task.queue or attempt.queue or",
        "attempt.queue = attempt.queue or",
        WORKERS,
    ),
    _lua(
        "what a worker refuses is left",
        "lib/claim_task",
        "  elseif refused_path(claim, id, task) then",
        "  elseif false then",
        PARKING,
    ),
    _lua(
        "a refused record is left",
        "lib/columns",
        "  if claim.refused_records[id] and claim.refused_records[id] == redis.sha1hex(claim.column.tasks[id]) then",
        "  if false then",
        SIGNING,
    ),
    _lua(
        "only the refused record itself is left",
        "lib/columns",
        "  if claim.refused_records[id] and claim.refused_records[id] == redis.sha1hex(claim.column.tasks[id]) then",
        "  if claim.refused_records[id] then",
        SIGNING,
    ),
    _python(
        "an untrusted record is not run",
        "calls/attempts",
        "if distrust:\n            mark",
        "if False:\n            mark",
        SIGNING,
    ),
    _python(
        "an untrusted record is not built upon",
        "operations",
        "if distrust:\n            # To sign",
        "if False:\n            # To sign",
        SIGNING,
    ),
    _python("a wrong signature is seen", "signing", "return Seal.WRONG", "return Seal.CURRENT", SIGNING),
    _lua("an unreadable body is not hastened", "lib/park", "if path and path ~= '-' and", "if path and", PARKING),
    # overlap, holding back, cancelling
    _lua("a held-back occurrence costs its iteration", "lib/held", "      left = left - 1\n", "", OVERLAP),
    _lua(
        "only as many are released as there is room for",
        "lib/held",
        "and left ~= 0 and not is_full(task, open) do",
        "and left ~= 0 do",
        OVERLAP,
    ),
    _lua(
        "a held task releases nothing",
        "lib/held",
        "or task.enabled ~= 1 or redis.call('HEXISTS', keys.paused, id) == 1 then",
        "then",
        OVERLAP,
    ),
    _lua("holding back is bounded", "lib/held", "    if #nominals >= task.buffer then", "    if false then", OVERLAP),
    _lua(
        "what is held back keeps its task",
        "lib/endings",
        "return redis.call('HEXISTS', keys.held, id) == 1 or",
        "return",
        OVERLAP,
    ),
    _lua(
        "a run that is cancelled by another is not granted",
        "lib/claim_run",
        "  if claim.closed[run_id] then",
        "  if false then",
        OVERLAP,
    ),
    _lua("a cancel ends with its run", "lib/endings", "  redis.call('HDEL', keys.cancels, run)\n", "", RUNS),
    _lua("only an open run is asked to end", "cancel", "elseif is_open() then", "elseif true then", RUNS),
    _lua(
        "only the holder notes progress",
        "progress",
        "if not attempt or attempt.token ~= token then",
        "if not attempt then",
        RUNS,
    ),
    _lua(
        "too many failures pause a task", "lib/endings", "if failures >= task.pause_after and", "if false and", OVERLAP
    ),
    _lua(
        "a success ends the row of failures", "lib/endings", "      redis.call('HDEL', keys.streak, id)\n", "", OVERLAP
    ),
    _lua(
        "a pause ends when it was to",
        "lib/claim_task",
        "  elseif until_ms and until_ms <= now then",
        "  elseif false then",
        OVERLAP,
    ),
    _lua(
        "nothing is admitted in maintenance",
        "claim",
        "local found = window_end and {} or due",
        "local found = due",
        RUNS,
    ),
    _lua("what is to be skipped is skipped", "lib/claim_task", "  if skips > 0 then", "  if false then", RUNS),
    _lua("a requeued run keeps to overlap", "requeue", "if is_full(task, runs_open) then", "if false then", RUNS),
    _lua("dead runs do not stay for ever", "lib/dead", "'-inf', now - DEAD_KEPT_MS,", "'-inf', 0,", RUNS),
    _lua(
        "a backfill keeps to its bound",
        "lib/backfills",
        "b.segments[1] and b.open < b.max_running and",
        "b.segments[1] and",
        BACKFILL,
    ),
    _lua("a backfill keeps to overlap", "lib/backfills", "and not is_full(task, open) do", "do", BACKFILL),
    _lua(
        "a task has one backfill",
        "backfill",
        "if redis.call('HEXISTS', backfills, id) == 1 then",
        "if false then",
        BACKFILL,
    ),
    _lua(
        "a task waits for its backfill",
        "lib/endings",
        " or redis.call('HEXISTS', keys.backfills, id) == 1",
        "",
        BACKFILL,
    ),
    # misfires
    _lua(
        "within its grace an occurrence just runs",
        "lib/misfire",
        "local late_until = now - task.grace - task.jitter",
        "local late_until = now",
        MISFIRE,
    ),
    _lua(
        "nothing older than the window is caught up", "lib/misfire", "if task.window > 0 then", "if false then", MISFIRE
    ),
    _lua(
        "one run stands for all the missed",
        "lib/misfire",
        "let_go(late - 1, 'coalesced')",
        "let_go(0, 'coalesced')",
        MISFIRE,
    ),
    _lua("skip lets all go", "lib/misfire", "let_go(late, 'misfire')", "let_go(0, 'misfire')", MISFIRE),
    _lua(
        "catching up is bounded",
        "lib/misfire",
        "let_go(late - task.catchup, 'limit')",
        "let_go(0, 'limit')",
        MISFIRE,
    ),
    # the worker
    _python(
        "trust ends with the lease",
        "worker/lease",
        "return not self.is_refused and clock.boottime() < self._trusted_until",
        "return not self.is_refused",
        FAULTS,
    ),
    _python(
        "nothing begins under a lost lease",
        "worker/loop",
        "            if lane.lease.is_trusted:\n                self.runner.begin(lane, attempt, now_ms)\n            return",
        "            self.runner.begin(lane, attempt, now_ms)\n            return",
        FAULTS,
    ),
    _python(
        "a lost lease ends its runs",
        "worker/loop",
        '        for run_id in runs:\n            self._pools.cancel(run_id, "its worker lost the lease: others have the run now")\n',
        "",
        WORKER,
        FAULTS,
    ),
    _python("overdue attempts are ended", "worker/keeper", "            self._end_overdue()\n", "", WORKER),
    _python(
        "a hint is no condition of beginning",
        "worker/loop",
        '        except SisyError as error:\n            log.debug("nobody could be woken: %s", error)\n',
        "        finally:\n            pass\n",
        FAULTS,
    ),
    _python(
        "an error of a step is waited out",
        "worker/outage",
        "        except Exception as error:  # noqa: BLE001 - a step of the loop: the edge\n",
        "        except ZeroDivisionError as error:\n",
        FAULTS,
    ),
    _python(
        "a full server is no end",
        "transport/replies",
        "    if isinstance(error, redis.exceptions.OutOfMemoryError):\n",
        "    if False:\n",
        FAULTS,
    ),
    _python("a demoted server is no end", "transport/replies", "    redis.exceptions.ReadOnlyError,\n", "", FAULTS),
    _python(
        "what was settled beside a refused claim counts",
        "worker/loop",
        "        if batch and not isinstance(answers[0], Exception):\n",
        "        if batch and not any(isinstance(a, Exception) for a in answers):\n",
        FAULTS,
    ),
    _python(
        "no client repeats a call by itself",
        "transport/clients",
        "_options(socket_timeout, AsyncRetry(NoBackoff(), 0))",
        "_options(socket_timeout, AsyncRetry(NoBackoff(), 3))",
        "tests/integration/test_transport.py",
    ),
    _python(
        "one bad plan holds up no other",
        "worker/planner",
        "            except Exception as error:  # noqa: BLE001 - one task must not hold up the others: part of the loop's edge\n",
        "            except ZeroDivisionError as error:\n",
        FAULTS,
    ),
    # Clusters, failovers, replicas
    _python(
        "a slot that moved is followed",
        "transport/delivery",
        "            topology.moved(int(error.slot_id), target)\n",
        "            return False\n",
        "tests/unit/test_topology.py",
        CLUSTER,
    ),
    _python(
        "a slot on the move is asked for where it goes",
        "transport/delivery",
        "            sending.asked = target\n",
        "            return False\n",
        "tests/unit/test_topology.py",
    ),
    _python(
        "after a lost reply nothing is sent again",
        "transport/delivery",
        "            topology.failed(address, _rest_after(answer))\n        return []\n",
        "            topology.failed(address, _rest_after(answer))\n        return list(group)\n",
        "tests/unit/test_topology.py",
    ),
    _python(
        "a map that failed is asked for again",
        "transport/topology",
        "        self._is_stale = True\n        self._avoided[address]",
        "        self._avoided[address]",
        "tests/unit/test_topology.py",
    ),
    _python(
        "partitions spread over equal ranges",
        "keys",
        "        tags.append(name + suffix.decode())\n",
        "        tags.append(name)\n",
        "tests/unit/test_keys.py",
    ),
    _python(
        "one partition's outage is not the others'",
        "worker/loop",
        "        if len(self._lanes) == 1:\n            raise error\n",
        "        raise error\n",
        CLUSTER,
    ),
    _python(
        "unacknowledged attempts are not started",
        "worker/loop",
        "        if shortfall is None:\n            self._begin_all",
        "        if True:\n            self._begin_all",
        REPLICAS,
    ),
    _python(
        "unacknowledged saves are told",
        "transport/patience",
        "            raise self._first\n",
        "            return\n",
        REPLICAS,
    ),
    _python(
        "what a failover forgot is ended again",
        "worker/keeper",
        "                self._on_live(lease, runs)\n",
        "                pass\n",
        REPLICAS,
    ),
    # 10: what may run
    _python(
        "nothing that is refused is imported",
        "worker/runner",
        "        reason = self._allow.reason_to_refuse(ref)\n",
        "        reason = None\n",
        "tests/integration/test_declared.py",
        "tests/unit/test_callables.py",
    ),
)
