"""Entries of the sets that are no language task: images, a table, and tests of bias."""

from trustml.data.catalogue import Entry

_ITEM = "test item"  # nobody's row: written to measure with, not to train on

ENTRIES = (
    Entry(
        name="mnist",
        title="MNIST, the published test part",
        task="images",
        description="Handwritten digits, 28 by 28 pixels",
        sizes=(10_000,),
        unit="image",
        licence="CC BY-SA 3.0, as stated on secondary pages",
        citation="LeCun et al.: Gradient-Based Learning Applied to Document Recognition, 1998",
        split="the publisher gives one part; `part` says 80, 10 and 10 % by a hash of the image",
    ),
    Entry(
        name="adult",
        title="Adult census income",
        task="table",
        description="Income above 50,000 dollars from 14 columns of the 1994 census",
        sizes=(32_561, 16_281),
        unit="person",
        licence="CC BY 4.0, as widely stated",
        citation="Becker, Kohavi: Adult, UCI Machine Learning Repository, 1996",
    ),
    Entry(
        name="crows_pairs",
        title="CrowS-Pairs",
        task="fairness",
        description="Pairs of sentences, one more stereotyping, in nine kinds of bias",
        sizes=(1_508,),
        unit=_ITEM,
        licence="CC BY-SA 4.0",
        citation="Nangia et al.: CrowS-Pairs: A Challenge Dataset for Measuring Social Biases in "
        "Masked Language Models, 2020",
    ),
    Entry(
        name="stereoset",
        title="StereoSet, public dev part",
        task="fairness",
        description="A context with a stereotype, an anti-stereotype and an unrelated text",
        sizes=(4_229,),
        unit=_ITEM,
        licence="CC BY-SA 4.0",
        citation="Nadeem, Bethke, Reddy: StereoSet: Measuring stereotypical bias in pretrained "
        "language models, 2021",
    ),
    Entry(
        name="bold",
        title="BOLD",
        task="fairness",
        description="Beginnings of sentences on people and groups, to be continued",
        sizes=(23_679,),
        unit=_ITEM,
        licence="CC BY-SA 4.0",
        citation="Dhamala et al.: BOLD: Dataset and Metrics for Measuring Biases in Open-Ended "
        "Language Generation, 2021",
    ),
    Entry(
        name="seat",
        title="WEAT and SEAT tests",
        task="fairness",
        description="Association tests: two target and two attribute sets, words or sentences",
        sizes=(46,),
        unit=_ITEM,
        licence="CC BY-NC 4.0: non-commercial",
        citation="Caliskan, Bryson, Narayanan: Semantics derived automatically from language "
        "corpora contain human-like biases, 2017; May et al.: On Measuring Social Biases in "
        "Sentence Encoders, 2019",
    ),
    Entry(
        name="winobias",
        title="WinoBias",
        task="fairness",
        description="Pronouns and occupations, pro- and anti-stereotyped",
        sizes=(3_168,),
        unit=_ITEM,
        licence="MIT",
        citation="Zhao et al.: Gender Bias in Coreference Resolution: Evaluation and Debiasing "
        "Methods, 2018",
    ),
    Entry(
        name="gender_words",
        title="Gendered words and pairs",
        task="fairness",
        description="Pairs to swap and lists of gendered words, from three projects",
        sizes=(480,),
        unit=_ITEM,
        licence="MIT and Apache-2.0",
        citation="Bolukbasi et al., 2016; Zhao et al., 2018 (WinoBias and GN-GloVe)",
    ),
    Entry(
        name="identity_terms",
        title="Identity terms and templates",
        task="fairness",
        description="Terms of seven attributes, sentence templates and given names",
        sizes=(660,),
        unit=_ITEM,
        licence="Apache-2.0",
        citation="Czarnowska, Vyas, Shah: Quantifying Social Biases in NLP: A Generalization and "
        "Empirical Comparison of Extrinsic Fairness Metrics, 2021",
    ),
    Entry(
        name="honest",
        title="HONEST, English",
        task="fairness",
        description="Templates whose blank a model may complete hurtfully",
        sizes=(1_515,),
        unit=_ITEM,
        licence="MIT",
        citation="Nozza, Bianchi, Hovy: HONEST: Measuring Hurtful Sentence Completion in Language "
        "Models, 2021",
    ),
    Entry(
        name="holistic_bias",
        title="HolisticBias v1.1",
        task="fairness",
        description="Descriptors of people on 13 axes, nouns and sentence templates",
        sizes=(583,),
        unit=_ITEM,
        licence="CC BY-SA 4.0",
        citation='Smith et al.: "I\'m sorry to hear that": Finding New Biases in Language Models '
        "with a Holistic Descriptor Dataset, 2022",
    ),
    Entry(
        name="bbq",
        title="BBQ, six categories",
        task="fairness",
        description="Multiple-choice questions whose ambiguous context invites a stereotype",
        sizes=(11_956,),
        unit=_ITEM,
        licence="CC BY 4.0",
        citation="Parrish et al.: BBQ: A Hand-Built Bias Benchmark for Question Answering, 2022",
    ),
    Entry(
        name="word_vectors",
        title="Google News word2vec, small parts",
        task="vectors",
        description="300 values for 1,347 words: frequent ones and those of association tests",
        sizes=(1_000, 347),
        unit="word",
        licence="MIT for the files; the vectors Apache-2.0, as widely stated",
        citation="Mikolov et al.: Distributed Representations of Words and Phrases and their "
        "Compositionality, 2013",
    ),
)
