"""What is asked of a model: prompts with roles and answers, generators, corruptions, and the user's own files."""

from unweave.tasks.custom_sequences import sequence
from unweave.tasks.eight_prompts import ioi_fixed
from unweave.tasks.factual import factual
from unweave.tasks.hand_pairs import pairs
from unweave.tasks.indirect_object import ioi
from unweave.tasks.known_tasks import TASKS, TaskInfo, make_task
from unweave.tasks.pair_files import read_pairs
from unweave.tasks.palindromes import draw_palindromes, palindromes
from unweave.tasks.repeated import repeated_tokens
from unweave.tasks.requirements import Requirement, Requirements, check
from unweave.tasks.syllogism import syllogism
from unweave.tasks.syllogism_words import SyllogismWords, TokenCounts
from unweave.tasks.task import Task
from unweave.tasks.texts import from_texts
from unweave.tasks.trainings import TRAININGS, KnownTraining, palindrome_data
from unweave.tasks.word_swaps import word_swap

__all__ = [
    "TASKS",
    "TRAININGS",
    "KnownTraining",
    "Requirement",
    "Requirements",
    "SyllogismWords",
    "Task",
    "TaskInfo",
    "TokenCounts",
    "check",
    "draw_palindromes",
    "factual",
    "from_texts",
    "ioi",
    "ioi_fixed",
    "make_task",
    "pairs",
    "palindrome_data",
    "palindromes",
    "read_pairs",
    "repeated_tokens",
    "sequence",
    "syllogism",
    "word_swap",
]
