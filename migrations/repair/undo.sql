CREATE FUNCTION pg_temp.session_fix_undo(
    run text, OUT restored bigint, OUT refused jsonb
) LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET TimeZone = 'UTC' SET extra_float_digits = 1 SET random_page_cost = 1.1 SET jit = off AS $session_fix$
-- Undo what the journal says of the sessions picked: all of a session, or nothing where a row of it is not as we left it.
DECLARE
    uses text;
    done bigint;
    columns text;
    has_key boolean;
BEGIN
    INSERT INTO pg_temp.session_fix_noted (table_name, row_id, session_id, before, after, used_by)
    SELECT j.table_name, j.row_id, j.session_id, (array_agg(j.before ORDER BY j.id))[1],
        (array_agg(j.after ORDER BY j.id DESC))[1], (array_agg(j.used_by ORDER BY j.id))[1]
    FROM session_fix.repair_journal j JOIN pg_temp.session_fix_picked p USING (session_id)
    WHERE j.repair = run AND j.undone_at IS NULL GROUP BY j.table_name, j.row_id, j.session_id;
    DELETE FROM pg_temp.session_fix_noted WHERE before IS NULL AND after IS NULL;  -- stored by us and merged by us later
    PERFORM FROM public.ai_sessions s JOIN pg_temp.session_fix_noted n ON n.row_id = s.id
    WHERE n.table_name = 'ai_sessions' ORDER BY s.id FOR UPDATE OF s;

    -- In statements of their own, now that nobody changes these rows any more.
    UPDATE pg_temp.session_fix_noted n SET why = 'it was deleted since'
    WHERE after IS NOT NULL AND NOT EXISTS (SELECT FROM public.ai_sessions s WHERE s.id = n.row_id);
    UPDATE pg_temp.session_fix_noted n SET why = 'it was changed since' FROM public.ai_sessions s
    WHERE s.id = n.row_id AND n.table_name = 'ai_sessions' AND n.after IS NOT NULL
        AND jsonb_populate_record(s, n.after)::text <> s::text;
    UPDATE pg_temp.session_fix_noted n SET why = 'a row of this id was stored since' FROM public.ai_sessions s
    WHERE s.id = n.row_id AND n.table_name = 'ai_sessions' AND n.after IS NULL;
    UPDATE pg_temp.session_fix_noted n SET why = 'a row of this id was stored since' FROM public.ai_interactions i
    WHERE i.id = n.row_id AND n.table_name = 'ai_interactions';
    UPDATE pg_temp.session_fix_noted n SET why = 'it was used since'
    FROM pg_temp.session_fix_noted m LEFT JOIN (
        SELECT i.session_id, pg_temp.session_fix_digest(array_agg(i.id)) AS used_by
        FROM public.ai_interactions i JOIN pg_temp.session_fix_noted k ON k.row_id = i.session_id AND k.before IS NULL
        GROUP BY i.session_id
    ) u ON u.session_id = m.row_id
    WHERE n.row_id = m.row_id AND n.before IS NULL AND m.before IS NULL AND n.why IS NULL
        AND u.used_by IS DISTINCT FROM n.used_by;
    FOR uses IN SELECT pg_temp.session_fix_uses('public.ai_sessions') LOOP
        EXECUTE 'UPDATE pg_temp.session_fix_noted n SET why = ''it was used since'' FROM (' || uses || ') u'
            || ' WHERE u.id = n.row_id AND n.before IS NULL';
    END LOOP;
    SELECT EXISTS (
        SELECT FROM pg_constraint k JOIN pg_attribute a ON a.attrelid = k.conrelid AND k.conkey = ARRAY[a.attnum]
        WHERE k.contype = 'f' AND k.conrelid = 'public.ai_interactions'::regclass AND a.attname = 'session_id'
            AND coalesce((to_jsonb(k) ->> 'conenforced')::boolean, true)  -- which came with PostgreSQL 18
    ) INTO has_key;
    UPDATE pg_temp.session_fix_noted n SET why = 'interactions name it, and the foreign key holds them to it'
    WHERE has_key AND n.before IS NULL AND n.used_by IS NOT NULL AND n.why IS NULL;
    UPDATE pg_temp.session_fix_noted n SET why = 'its session is not stored, and the foreign key asks for one'
    WHERE has_key AND n.table_name = 'ai_interactions' AND n.why IS NULL
        AND NOT EXISTS (SELECT FROM public.ai_sessions s WHERE s.id = n.session_id);
    SELECT coalesce(jsonb_agg(jsonb_build_object('session_id', session_id, 'table', table_name, 'id', row_id, 'why', why)
        ORDER BY session_id, row_id), '[]') INTO refused FROM pg_temp.session_fix_noted WHERE why IS NOT NULL;
    DELETE FROM pg_temp.session_fix_noted n USING pg_temp.session_fix_noted r
    WHERE r.session_id = n.session_id AND r.why IS NOT NULL;

    DELETE FROM public.ai_sessions s USING pg_temp.session_fix_noted n
    WHERE s.id = n.row_id AND n.table_name = 'ai_sessions' AND n.before IS NULL;
    GET DIAGNOSTICS restored = ROW_COUNT;
    UPDATE public.ai_sessions s SET created_at = b.created_at, updated_at = b.updated_at
    FROM pg_temp.session_fix_noted n, jsonb_populate_record(NULL::public.ai_sessions, n.before) b
    WHERE s.id = n.row_id AND n.table_name = 'ai_sessions' AND n.after IS NOT NULL;
    GET DIAGNOSTICS done = ROW_COUNT;
    restored := restored + done;
    UPDATE public.ai_sessions s SET updated_at = b.updated_at  -- as in session_fix_merge: a trigger may have set it
    FROM pg_temp.session_fix_noted n, jsonb_populate_record(NULL::public.ai_sessions, n.before) b
    WHERE s.id = n.row_id AND n.table_name = 'ai_sessions' AND n.after IS NOT NULL
        AND s.updated_at IS DISTINCT FROM b.updated_at;
    SELECT string_agg(quote_ident(attname), ', r.' ORDER BY attnum) INTO columns FROM pg_attribute
    WHERE attrelid = 'public.ai_sessions'::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = '';
    EXECUTE 'INSERT INTO public.ai_sessions (' || replace(columns, ', r.', ', ') || ') OVERRIDING SYSTEM VALUE SELECT r.'
        || columns || ' FROM pg_temp.session_fix_noted n, jsonb_populate_record(NULL::public.ai_sessions, n.before) r'
        || ' WHERE n.table_name = ''ai_sessions'' AND n.after IS NULL ORDER BY r.id';
    GET DIAGNOSTICS done = ROW_COUNT;
    restored := restored + done;
    SELECT string_agg(quote_ident(attname), ', r.' ORDER BY attnum) INTO columns FROM pg_attribute
    WHERE attrelid = 'public.ai_interactions'::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = '';
    EXECUTE 'INSERT INTO public.ai_interactions (' || replace(columns, ', r.', ', ') || ') OVERRIDING SYSTEM VALUE'
        || ' SELECT r.' || columns || ' FROM pg_temp.session_fix_noted n,'
        || ' jsonb_populate_record(NULL::public.ai_interactions, n.before) r WHERE n.table_name = ''ai_interactions''';
    GET DIAGNOSTICS done = ROW_COUNT;
    restored := restored + done;
    IF to_regclass('session_fix.quarantined_interactions') IS NOT NULL THEN
        DELETE FROM session_fix.quarantined_interactions q USING pg_temp.session_fix_noted n
        WHERE q.id = n.row_id AND n.table_name = 'ai_interactions';
    END IF;
    UPDATE session_fix.repair_journal j SET undone_at = clock_timestamp() FROM pg_temp.session_fix_picked p
    WHERE j.session_id = p.session_id AND j.repair = run AND j.undone_at IS NULL
        AND NOT EXISTS (SELECT FROM jsonb_array_elements(refused) r WHERE (r ->> 'session_id')::uuid = j.session_id);
    IF restored <> (SELECT count(*) FROM pg_temp.session_fix_noted)
        OR EXISTS (
            SELECT FROM pg_temp.session_fix_noted n LEFT JOIN public.ai_sessions s ON s.id = n.row_id
            WHERE n.table_name = 'ai_sessions'
                AND s::text IS DISTINCT FROM jsonb_populate_record(s, n.before)::text
        )
        OR EXISTS (
            SELECT FROM pg_temp.session_fix_noted n LEFT JOIN public.ai_interactions i ON i.id = n.row_id
            WHERE n.table_name = 'ai_interactions'
                AND i::text IS DISTINCT FROM jsonb_populate_record(i, n.before)::text
        )
    THEN
        RAISE EXCEPTION USING ERRCODE = 'SFX01',
            MESSAGE = 'rows are not as the journal says after the undo; a trigger or a rule interferes';
    END IF;
END
$session_fix$
