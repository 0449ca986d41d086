-- What the owner policies look a user's sessions up by. Built CONCURRENTLY, which cannot share a transaction.
-- Blocks: SHARE UPDATE EXCLUSIVE on ai_sessions; reads and writes go on. It waits for every transaction that is older.
CREATE INDEX CONCURRENTLY IF NOT EXISTS ai_sessions_user_id_idx ON public.ai_sessions (user_id);
