"""VQA 2.0 and VQA-E.

VQA 2.0: `{"data_subtype", "questions": [{"question_id", "image_id", "question"}]}` and, in a file of their own,
`{"annotations": [{"question_id", "question_type", "answer_type", "answers": [{"answer", …}], …}]}`.
VQA-E: a list of `{"img_id", "question", "question_type", "answers": [str], "explanation": [str, score], …}`.
Goyal et al. (2017); Li et al. (2018), "VQA-E: Explaining, Elaborating, and Enhancing Your Answers for Visual Questions".
"""

from __future__ import annotations

from collections.abc import Iterator
from sys import intern
from typing import Any

from close.data.answers import answers_to_learn
from close.data.readers.base import READERS, Reader, Skip, Values, get, text
from close.data.readers.coco import captions_by_image
from close.data.readers.json_stream import json_items, json_value
from close.errors import DataError, RecipeError, shown

__all__ = ["Vqa", "VqaE"]


@READERS.register("vqa")
class Vqa(Reader):
    """A row for each question: context the question, sources all captions of its image (`captions`), answers and targets.

    Questions stream; answers and captions are held in memory, each distinct answer once.
    """

    reads = "VQA 2.0's questions: v2_OpenEnded_mscoco_train2014_questions.json"
    uses = ("images", "annotations", "captions")

    def records(self) -> Iterator[tuple[str, Any]]:
        options = self.options
        self.subset = json_value(self.path, "data_subtype", encoding=options.encoding)
        if self.subset is not None and not isinstance(self.subset, str):
            raise DataError(f"{self.path}: 'data_subtype' is {shown(self.subset)}, expected a text, e.g. 'train2014'")
        self.captions = captions_by_image(options.captions, options.encoding) if options.captions else None
        self.answers: dict[int, tuple[str, str, list[str]]] | None = self._annotations()
        yield from json_items(self.path, "questions", encoding=options.encoding)

    def _annotations(self) -> dict[int, tuple[str, str, list[str]]] | None:
        """Question id to question type, answer type and answers."""
        if self.options.annotations is None:
            return None
        found: dict[int, tuple[str, str, list[str]]] = {}
        for where, record in json_items(self.options.annotations, "annotations", encoding=self.options.encoding):
            answers = [intern(get(a, "answer", str, where)) for a in get(record, "answers", list, where)]
            question_type, answer_type = (get(record, key, str, where) for key in ("question_type", "answer_type"))
            found[get(record, "question_id", int, where)] = (intern(question_type), intern(answer_type), answers)
        return found

    def row(self, record: Any, where: str) -> Values:
        key, image = get(record, "question_id", int, where), get(record, "image_id", int, where)
        values = {"id": key, "context": text(record, "question", where), "group": image}
        if self.captions is not None:
            if image not in self.captions:
                raise DataError(f"{where}: {self.options.captions} has no caption of image {image}")
            if not self.captions[image]:
                raise Skip("every caption is flagged")
            values["source"] = self.captions[image]
        if self.subset:
            values["image"] = self.image(_coco_name(self.subset, image), where)
        if self.answers is not None:
            if key not in self.answers:
                raise DataError(f"{where}: {self.options.annotations} has no answers to question {key}")
            question_type, answer_type, answers = self.answers[key]
            values |= _answered(answers, where)
            values["meta"] = {"question_type": question_type, "answer_type": answer_type}
        return values


@READERS.register("vqa-e")
class VqaE(Reader):
    """A row for each question: source the explanation, context the question. `split` is the COCO subset of the images
    (train2014 or val2014), which the file does not tell; needed for images only. Streams.
    """

    reads = "VQA-E's list of questions with explanations"
    uses = ("images", "split")

    def records(self) -> Iterator[tuple[str, Any]]:
        if self.options.images and len(self.options.split) != 1:
            raise RecipeError(
                f"{self.path}: VQA-E does not say where its images are from; split is train2014 or val2014"
            )
        yield from json_items(self.path, None, encoding=self.options.encoding)

    def row(self, record: Any, where: str) -> Values:
        image = get(record, "img_id", int, where)
        explanation = get(record, "explanation", (list, str), where)
        source = explanation if isinstance(explanation, str) else next(iter(explanation), None)
        if not isinstance(source, str):
            raise DataError(f"{where}: 'explanation' is {shown(explanation)}, expected a text, or a text and its score")
        number = where.rpartition("[")[2].rstrip("]")
        values = {
            "id": f"{image}-{number}",
            "source": source.strip(),
            "context": text(record, "question", where),
            "group": image,
            "meta": {key: record[key] for key in ("question_type", "answer_type") if key in record},
        } | _answered(get(record, "answers", list, where), where)
        if self.options.split:
            values["image"] = self.image(_coco_name(self.options.split[0], image), where)
        return values


def _coco_name(subset: str, image: int) -> str:
    return f"COCO_{subset.replace('test-dev', 'test')}_{image:012d}.jpg"


def _answered(answers: list[Any], where: str) -> Values:
    """The annotators' answers, and those that are learnt: the commonest, its ties, and what was said three times."""
    if not answers or not all(isinstance(answer, str) and answer.strip() for answer in answers):
        raise DataError(f"{where}: 'answers' is {shown(answers)}, expected texts, none of them empty")
    return {"answers": answers, "target": list(answers_to_learn(tuple(answers)))}
