"""The API: stores the session under the id it answers with."""

from ai_session_logger import ai_logger
from backend_common.app import build_app
from database_service import db_service

app = build_app(db_service, ai_logger)
