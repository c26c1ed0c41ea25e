//! What is wrong with a pipeline file: one code per cause, with its place and the way out.

use crate::span::Span;

/// How many problems are kept to be shown; the rest is counted.
pub const PROBLEMS_SHOWN_MAX: usize = 100;
/// How many places of broken syntax are remembered.
const BROKEN_MAX: usize = 1000;

#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub enum Severity {
    Error,
    Warning,
}

impl Severity {
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        }
    }
}

macro_rules! codes {
    ($($variant:ident $name:literal $severity:ident $about:literal)*) => {
        /// The cause of a problem. The names are stable: scripts and suppressions may rely on them.
        #[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
        pub enum Code {
            $(#[doc = $about] $variant,)*
        }

        impl Code {
            const ALL: &'static [Code] = &[$(Code::$variant,)*];

            /// `monmon::unknown_option`
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$variant => concat!("monmon::", $name),)* }
            }

            /// One line of documentation.
            pub fn about(self) -> &'static str {
                match self { $(Code::$variant => $about,)* }
            }

            /// The severity that a problem of this cause has unless it says otherwise.
            pub fn severity(self) -> Severity {
                match self { $(Code::$variant => Severity::$severity,)* }
            }
        }
    };
}

codes! {
    // Files
    UnreadableFile "unreadable_file" Error "A file that the pipeline names cannot be read."
    TooLarge "too_large" Error "A file or a value is larger than monmon accepts."
    TooMany "too_many" Error "There is more of something than monmon accepts."
    TooDeep "too_deep" Error "Blocks, comments or includes are nested deeper than monmon accepts."
    NotUtf8 "not_utf8" Error "A file is not UTF-8 text."
    ForbiddenCharacter "forbidden_character" Error "The text holds a character that KDL forbids or that hides what is written."
    BadInclude "bad_include" Error "An include does not say which file it means."
    IncludeLoop "include_loop" Error "A file includes itself, directly or through others."
    // Syntax
    Syntax "syntax" Error "The text is not KDL."
    UnclosedBlock "unclosed_block" Error "A block is opened with `{` and never closed."
    StrayBrace "stray_brace" Error "A `}` closes no block."
    UnterminatedString "unterminated_string" Error "A string is opened and never closed."
    UnterminatedComment "unterminated_comment" Error "A comment is opened with `/*` and never closed."
    BadString "bad_string" Error "A string is not written as KDL wants it."
    BadEscape "bad_escape" Error "A backslash in a string is followed by something KDL does not know."
    OldRawString "old_raw_string" Error "A raw string is written as in KDL 1: r\"...\"."
    BareValue "bare_value" Error "A value that needs quotes has none."
    BareKeyword "bare_keyword" Error "true, false and null are written #true, #false and #null."
    BadNumber "bad_number" Error "A number is not written as KDL wants it."
    StrayEquals "stray_equals" Error "There is a `=` where no property is."
    MissingValue "missing_value" Error "A property has a name and no value."
    MissingSpace "missing_space" Error "Two values touch each other."
    MissingName "missing_name" Error "A block or a value stands where a node's name should."
    BadAnnotation "bad_annotation" Error "A type annotation is not written as KDL wants it, or is none that monmon knows."
    // Nodes and values
    UnknownNode "unknown_node" Error "A node's name means nothing where it stands."
    UnknownOption "unknown_option" Error "An option's name means nothing to the node it is given to."
    MissingOption "missing_option" Error "An option that is required is not given."
    MissingArgument "missing_argument" Error "An argument that is required is not given."
    MissingNode "missing_node" Error "A child that is required is not there."
    ExtraArgument "extra_argument" Error "A node is given more arguments than it takes."
    RepeatedOption "repeated_option" Error "An option is given more than once."
    RepeatedNode "repeated_node" Error "A node that may be there once is there more than once."
    UnexpectedBlock "unexpected_block" Error "A node that takes no block has one."
    WrongType "wrong_type" Error "A value is of another type than the option takes."
    MissingUnit "missing_unit" Error "A bare number stands where a quantity with its unit is needed."
    OutOfRange "out_of_range" Error "A value is smaller or larger than the option allows."
    BadDuration "bad_duration" Error "A text is not a duration such as 30s or 1m30s."
    BadSize "bad_size" Error "A text is not a size such as 16MiB."
    BadRanges "bad_ranges" Error "A text is not a list of numbers and ranges such as 200-299,304."
    BadInstant "bad_instant" Error "A text is neither a day such as 2026-01-31 nor an instant such as 2026-01-31T12:00:00Z."
    BadUrl "bad_url" Error "A text is not a URL that can be used here."
    BadName "bad_name" Error "A name is empty, too long, or holds characters that names may not hold."
    BadPath "bad_path" Error "A path is empty or too long."
    BadPattern "bad_pattern" Error "A pattern is not a regular expression that monmon can compile."
    BadTemplate "bad_template" Error "A template is not what it should be, or names a field that does not exist."
    BadPlugin "bad_plugin" Error "A plugin cannot be used, or refuses its configuration."
    UnknownWord "unknown_word" Error "A value is none of the words that the option takes."
    LateNotAllowed "late_not_allowed" Error "A value comes by (env) or (file) where it must be written in place."
    Conflict "conflict" Error "Two options that are both given exclude each other, or one is given without the other it needs."
    // Values that come late
    UnsetEnv "unset_env" Error "An environment variable that the pipeline names is not set."
    BadSecret "bad_secret" Error "What an environment variable or a file holds cannot be used as a value."
    // The pipeline as a whole
    EmptyPipeline "empty_pipeline" Error "A pipeline has no source or no sink."
    UnknownKind "unknown_kind" Error "A stage is of a kind that monmon does not have."
    UnknownStage "unknown_stage" Error "An input names a stage that does not exist."
    DuplicateName "duplicate_name" Error "Two things that are told apart by their name have the same one."
    MissingFrom "missing_from" Error "A stage does not say where its input comes from."
    AmbiguousFrom "ambiguous_from" Error "A stage does not say which of several stages its input comes from."
    WrongFrom "wrong_from" Error "An input names a stage that gives nothing, such as a sink."
    Cycle "cycle" Error "Stages feed each other in a circle."
    UnusedStage "unused_stage" Error "What a stage gives reaches no sink."
    SinkWithoutInput "sink_without_input" Error "A sink is fed by nothing."
    NeedsPage "needs_page" Error "A stage needs pages and its input has none."
    BadCsv "bad_csv" Error "A list of checks in a CSV file has a row that cannot be used."
    Unsupported "unsupported" Error "Something is written well and monmon cannot do it."
    NotApplied "not_applied" Warning "An option has no effect where it is given."
    Confusable "confusable" Warning "Two names look alike and are not the same, or one can be mistaken for another."
    Deprecated "deprecated" Warning "Something still works and has a better way to be written."
}

impl Code {
    /// All codes, in the order of the reference.
    pub fn all() -> &'static [Code] {
        Self::ALL
    }
}

/// One thing that is wrong.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Problem {
    pub code: Code,
    pub severity: Severity,
    /// What is wrong: lower case, no full stop, the user's text in backticks.
    pub message: String,
    pub span: Option<Span>,
    /// What was expected, shown at the span.
    pub label: Box<str>,
    /// What to do.
    pub help: Option<Box<str>>,
    /// Other places that explain this one.
    pub related: Vec<(Span, String)>,
}

impl Problem {
    pub fn new(code: Code, span: impl Into<Option<Span>>, message: impl Into<String>) -> Self {
        Self {
            code,
            severity: code.severity(),
            message: message.into(),
            span: span.into(),
            label: Box::default(),
            help: None,
            related: Vec::new(),
        }
    }

    #[must_use]
    pub fn label(mut self, label: impl Into<Box<str>>) -> Self {
        self.label = label.into();
        self
    }

    #[must_use]
    pub fn help(mut self, help: impl Into<Box<str>>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Like [`Problem::help`], where there may be nothing to say.
    #[must_use]
    pub fn maybe_help(mut self, help: Option<String>) -> Self {
        self.help = help.map(Box::from).or(self.help);
        self
    }

    #[must_use]
    pub fn related(mut self, span: Span, label: impl Into<String>) -> Self {
        self.related.push((span, label.into()));
        self
    }

    #[must_use]
    pub fn warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }
}

/// All that is wrong, in the order of the text.
#[derive(Clone, Debug, Default)]
pub struct Problems {
    list: Vec<Problem>,
    errors: usize,
    dropped: usize,
    /// Where the syntax is broken: what follows from it is not reported.
    broken: Vec<Span>,
    /// Text that no excerpt may show.
    hidden: Vec<Span>,
}

impl Problems {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn push(&mut self, problem: Problem) {
        let is_error = problem.severity == Severity::Error;
        self.errors += usize::from(is_error);
        if self.list.len() < PROBLEMS_SHOWN_MAX {
            self.list.push(problem);
            return;
        }
        self.dropped += 1;
        // A file full of warnings must not hide an error.
        if is_error && let Some(place) = self.list.iter().rposition(|kept| kept.severity == Severity::Warning)
        {
            self.list[place] = problem;
        }
    }

    pub fn extend(&mut self, other: Problems) {
        let dropped = other.dropped;
        let errors_dropped =
            other.errors - other.list.iter().filter(|kept| kept.severity == Severity::Error).count();
        for problem in other.list {
            self.push(problem);
        }
        self.dropped += dropped;
        self.errors += errors_dropped;
        self.broken.extend(other.broken);
        self.hidden.extend(other.hidden);
    }

    pub fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// Every error, shown or not.
    pub fn error_count(&self) -> usize {
        self.errors
    }

    /// Every problem, shown or not.
    pub fn len(&self) -> usize {
        self.list.len() + self.dropped
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many were counted and not kept.
    pub fn dropped(&self) -> usize {
        self.dropped
    }

    /// The kept problems by file and offset; those without a place come first.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        let mut order: Vec<&Problem> = self.list.iter().collect();
        order.sort_by_key(|problem| problem.span.map(|span| (span.file, span.offset)));
        order.into_iter()
    }

    /// Reports broken syntax: later steps do not complain of this text again.
    pub(crate) fn push_broken(&mut self, problem: Problem) {
        if let Some(span) = problem.span
            && self.broken.len() < BROKEN_MAX
        {
            self.broken.push(span);
        }
        self.push(problem);
    }

    pub(crate) fn is_broken(&self, span: Span) -> bool {
        self.broken.iter().any(|broken| broken.overlaps(span))
    }

    /// Keeps this text out of every excerpt, because it is or may be a secret.
    pub fn hide(&mut self, span: Span) {
        self.hidden.push(span);
    }

    pub(crate) fn hidden(&self) -> &[Span] {
        &self.hidden
    }
}
