"""The API as it was: it answers with an id under which no session is stored."""

from ai_session_logger import ai_logger
from backend_common.app import build_app
from database_service import db_service

app = build_app(db_service, ai_logger, store_session=lambda session_id: db_service.create_session(session_id))
