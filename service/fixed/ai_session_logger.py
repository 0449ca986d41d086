"""The logger: makes sure that the session it was given is stored before the interaction."""

from backend_common.logger import InteractionLogger
from database_service import db_service

ai_logger = InteractionLogger(db_service)
log_ai_interaction = ai_logger.log_interaction
