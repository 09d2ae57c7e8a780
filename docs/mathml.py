"""Math renderer of the documentation: equations as MathML, which browsers show without a network."""

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator


def setup(app: Sphinx) -> dict:
  app.add_html_math_renderer("mathml", (_visit_inline, None), (_visit_block, None))
  return {"parallel_read_safe": True, "parallel_write_safe": True}


def _visit_inline(translator: HTML5Translator, node: nodes.math) -> None:
  translator.body.append(convert(node.astext()))
  raise nodes.SkipNode


def _visit_block(translator: HTML5Translator, node: nodes.math_block) -> None:
  translator.body.append(convert(node.astext(), display="block"))
  raise nodes.SkipNode
