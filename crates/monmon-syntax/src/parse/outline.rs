//! The structure of a file: nodes, their heads, their blocks. It goes on after every mistake, so that one run shows
//! them all, and it keeps its own stack, so that no nesting can exhaust the thread's.

use kdl::{KdlDocument, KdlNode};

use crate::parse::head::Head;
use crate::parse::lex::{Kind, Lexer, Token, is_space};
use crate::parse::{BLOCK_DEPTH_MAX, ITEMS_MAX, SLASHDASH_DEPTH_MAX, SYNTAX_PROBLEMS_MAX};
use crate::problem::{Code, Problem, Problems};

/// How many blocks that are left open are told apart.
const REPAIRS_MAX: usize = 4;

/// Reads the text from `start`.
pub(crate) fn outline(lexer: &Lexer<'_>, start: usize, problems: &mut Problems) -> KdlDocument {
    let mut first = Problems::new();
    let (document, suspect) = Outline::new(lexer, start, &mut first, &[]).run();
    let Some(suspect) = suspect else {
        problems.extend(first);
        return document;
    };
    drop(document);
    // Read again as if the blocks were closed where the indentation says that they should be: one `}` that is missing
    // must not make strangers of all the nodes that follow.
    let mut repairs = vec![suspect];
    while repairs.len() < REPAIRS_MAX {
        let mut dry = Problems::new();
        let mut outline = Outline::new(lexer, start, &mut dry, &repairs);
        outline.dry = true;
        match outline.run().1 {
            Some(suspect) => repairs.push(suspect),
            None => break,
        }
    }
    Outline::new(lexer, start, problems, &repairs).run().0
}

/// A block that was probably left open, and where it should have been closed.
#[derive(Copy, Clone, Debug)]
struct Suspect {
    open: usize,
    end: usize,
}

pub(crate) struct Outline<'t, 'p> {
    pub(crate) lexer: &'p Lexer<'t>,
    problems: &'p mut Problems,
    pub(crate) at: usize,
    /// The blocks that are open.
    stack: Vec<Block>,
    /// The nodes outside of all blocks.
    top: Vec<KdlNode>,
    /// A `/-` that waits for its node.
    pub(crate) commented_out: Option<usize>,
    /// The first block that the indentation says should have ended.
    suspect: Option<Suspect>,
    /// Those of earlier readings that are still to be closed in this one, in the order of the text.
    repairs: &'p [Suspect],
    /// Looks for suspects only.
    dry: bool,
    /// Of the line in hand.
    line_start: usize,
    /// The indentation of the line in hand, in bytes.
    indent: usize,
    /// Nodes and values so far.
    pub(crate) items: usize,
    /// What is wrong with the node in hand.
    faults: Vec<Problem>,
    fault_count: usize,
    pub(crate) stopped: bool,
}

struct Block {
    nodes: Vec<KdlNode>,
    owner: Owner,
    /// Of the `{`.
    open: usize,
    indent: usize,
    /// Commented out by a `/-` before the `{`.
    skipped: bool,
    /// Whether what is in it is indented more than its owner.
    indented: bool,
}

/// The node that a block belongs to.
struct Owner {
    /// `None` where it is commented out or has no name.
    node: Option<KdlNode>,
    start: usize,
    /// Of the line that it begins on, in bytes.
    indent: usize,
    /// Commented out itself by a `/-`.
    skipped: bool,
    has_block: bool,
}

/// How a head ends.
pub(crate) enum HeadEnd {
    Node,
    Block(Token),
    SkippedBlock(Token),
}

impl<'t, 'p> Outline<'t, 'p> {
    fn new(lexer: &'p Lexer<'t>, start: usize, problems: &'p mut Problems, repairs: &'p [Suspect]) -> Self {
        let mut outline = Self {
            lexer,
            problems,
            at: start,
            stack: Vec::new(),
            top: Vec::new(),
            commented_out: None,
            suspect: None,
            repairs,
            dry: false,
            line_start: start,
            indent: 0,
            items: 0,
            faults: Vec::new(),
            fault_count: 0,
            stopped: false,
        };
        outline.indent = outline.indent_at(start);
        outline
    }

    /// The document; with a suspect where a block is left open and it can be told which.
    fn run(mut self) -> (KdlDocument, Option<Suspect>) {
        self.nodes();
        self.finish()
    }

    fn nodes(&mut self) {
        while !self.stopped {
            let token = self.next();
            self.mend(&token);
            match token.kind {
                Kind::End => break,
                Kind::Space | Kind::Newline | Kind::LineComment | Kind::BlockComment | Kind::LineJoin => {}
                Kind::Semicolon => self.fault(
                    Problem::new(Code::Syntax, self.lexer.span(token.range()), "a `;` ends no node")
                        .label("nothing stands before it")
                        .help("leave it out"),
                ),
                Kind::SlashDash => match self.commented_out {
                    None => self.commented_out = Some(token.start),
                    Some(_) => self.fault(
                        Problem::new(Code::Syntax, self.lexer.span(token.range()), "`/-` stands twice")
                            .label("one is enough")
                            .help("one `/-` comments out one node or one value"),
                    ),
                },
                Kind::Close => {
                    self.idle_slashdash();
                    self.close(&token);
                }
                Kind::Open => self.nameless_block(token),
                _ => self.node(token),
            }
            self.flush();
        }
    }

    /// Looks whether the block in hand should have ended before this token, and ends it where that is known.
    fn mend(&mut self, token: &Token) {
        while let [repair, later @ ..] = self.repairs
            && repair.end == token.start
            && let Some(block) = self.stack.pop()
        {
            self.repairs = later;
            self.fault(
                Problem::new(
                    Code::UnclosedBlock,
                    self.lexer.span(repair.open..repair.open + 1),
                    "a block is never closed",
                )
                .label("opened here; the indentation below says where it should have ended")
                .help("close it with `}`"),
            );
            self.done(block.closed(token.start));
        }
        let Some(block) = self.stack.last_mut() else { return };
        let first_on_line = token.start == self.line_start + self.indent && block.open < self.line_start;
        let ends_earlier = match token.kind {
            Kind::Close => self.indent < block.indent,
            Kind::Bare | Kind::Quoted | Kind::OpenParen | Kind::SlashDash => self.indent <= block.indent,
            _ => false,
        };
        if first_on_line && token.kind == Kind::Bare && self.indent > block.indent {
            block.indented = true;
        }
        // Where nothing is indented the indentation tells nothing.
        if first_on_line && block.indented && ends_earlier && self.suspect.is_none() {
            self.suspect = Some(Suspect { open: block.open, end: token.start });
        }
    }

    /// The next token. What is wrong with it is noted; a token that swallows the rest is the last one.
    pub(crate) fn next(&mut self) -> Token {
        let mut token = self.lexer.token(self.at);
        self.at = token.end;
        if token.swallows_rest {
            self.stopped = true;
        }
        if token.kind == Kind::Newline {
            self.line_start = token.end;
            self.indent = self.indent_at(token.end);
        }
        if let Some(problem) = token.fault.take() {
            self.fault(*problem);
        }
        token
    }

    /// Takes a token back, to be read again.
    pub(crate) fn back(&mut self, token: &Token) {
        self.at = token.start;
        if token.broken {
            self.faults.pop();
        }
        if token.swallows_rest {
            self.stopped = false;
        }
    }

    pub(crate) fn fault(&mut self, problem: Problem) {
        self.faults.push(problem);
        // A node of one long line may be broken a million times.
        self.stopped |= self.faults.len() > SYNTAX_PROBLEMS_MAX;
    }

    /// Hands on what is wrong with the node that ends here.
    fn flush(&mut self) {
        // A missing quote makes words of what was in quotes; then these are no mistakes of their own.
        let quote = self.faults.iter().position(|fault| fault.code == Code::UnterminatedString);
        for (index, fault) in std::mem::take(&mut self.faults).into_iter().enumerate() {
            let caused = quote.is_some_and(|quote| index < quote) && fault.code == Code::MissingSpace;
            if caused || self.fault_count > SYNTAX_PROBLEMS_MAX {
                continue;
            }
            self.fault_count += 1;
            if self.fault_count > SYNTAX_PROBLEMS_MAX {
                let message = format!("the file has more than {SYNTAX_PROBLEMS_MAX} mistakes in its syntax");
                self.problems.push_broken(
                    Problem::new(Code::TooMany, fault.span, message)
                        .label("the rest of the file is not looked at"),
                );
                self.stopped = true;
                continue;
            }
            self.problems.push_broken(fault);
        }
    }

    fn stop(&mut self, problem: Problem) {
        self.fault(problem);
        self.stopped = true;
    }

    fn count(&mut self, items: usize, at: usize) {
        self.items += items;
        if self.items > ITEMS_MAX && !self.stopped {
            let message = format!("the file has more than {ITEMS_MAX} nodes and values");
            self.stop(
                Problem::new(Code::TooMany, self.lexer.span(at..at), message)
                    .label("one too many")
                    .help("many checks are better kept in a list of their own, which `checks-from` reads"),
            );
        }
    }

    fn node(&mut self, first: Token) {
        let skipped = self.commented_out.take().is_some();
        let indent = self.indent;
        let mut head = Head { start: first.start, end: first.end, name_end: first.end, ..Head::default() };
        let end = self.head(&mut head, first);
        self.count(1 + head.pieces.len(), head.start);
        let node = match skipped || self.dry || self.in_skipped() {
            true => None,
            false => {
                let faults = &mut self.faults;
                Some(head.node(self.lexer, &mut |problem| faults.push(problem)))
            }
        };
        let owner = Owner { node, start: head.start, indent, skipped, has_block: false };
        match end {
            HeadEnd::Node => self.done(owner),
            HeadEnd::Block(open) => self.open(owner, open, false),
            HeadEnd::SkippedBlock(open) => self.open(owner, open, true),
        }
    }

    fn in_skipped(&self) -> bool {
        self.stack.iter().any(|block| block.skipped || block.owner.skipped)
    }

    /// The node is complete.
    fn done(&mut self, owner: Owner) {
        let Some(node) = owner.node else { return };
        match self.stack.last_mut() {
            Some(block) => block.nodes.push(node),
            None => self.top.push(node),
        }
    }

    /// A `{` with nothing before it: on the line after its node, or without one.
    fn nameless_block(&mut self, open: Token) {
        let skipped = self.commented_out.take().is_some();
        let siblings = match self.stack.last_mut() {
            Some(block) => &mut block.nodes,
            None => &mut self.top,
        };
        let before = siblings.last().filter(|node| node.children().is_none() && !skipped);
        let only_space = before.is_some_and(|node| {
            let end = node.span().offset() + node.span().len();
            self.lexer.text.get(end..open.start).is_some_and(|between| between.trim().is_empty())
        });
        let span = self.lexer.span(open.range());
        if only_space && let Some(node) = siblings.pop() {
            let name = shortened(node.name().value()).to_owned();
            self.fault(
                Problem::new(
                    Code::MissingName,
                    span,
                    format!("the `{{` of `{name}` stands on a line of its own"),
                )
                .label("belongs on the line above")
                .help(format!("write it as: {name} ... {{")),
            );
            let start = node.span().offset();
            return self.open(
                Owner { node: Some(node), start, indent: self.indent, skipped, has_block: false },
                open,
                false,
            );
        }
        self.fault(
            Problem::new(Code::MissingName, span, "a block stands without a node")
                .label("expected the name of a node before it")
                .help("write it as: name { ... }"),
        );
        let owner =
            Owner { node: None, start: open.start, indent: self.indent, skipped: true, has_block: false };
        self.open(owner, open, false);
    }

    fn open(&mut self, owner: Owner, open: Token, skipped: bool) {
        if self.stack.len() == BLOCK_DEPTH_MAX {
            let message = format!("blocks are nested deeper than {BLOCK_DEPTH_MAX}");
            self.stop(
                Problem::new(Code::TooDeep, self.lexer.span(open.range()), message).label("one too deep"),
            );
        }
        let slashdashes = self.stack.iter().filter(|block| block.skipped || block.owner.skipped).count();
        if (skipped || owner.skipped) && slashdashes == SLASHDASH_DEPTH_MAX {
            let message = format!("`/-` is nested deeper than {SLASHDASH_DEPTH_MAX}");
            self.stop(
                Problem::new(Code::TooDeep, self.lexer.span(open.range()), message)
                    .label("one too deep")
                    .help("what stands in a block that is commented out needs no `/-` of its own"),
            );
        }
        let indent = owner.indent;
        self.stack.push(Block {
            nodes: Vec::new(),
            owner,
            open: open.start,
            indent,
            skipped,
            indented: false,
        });
    }

    fn indent_at(&self, line_start: usize) -> usize {
        self.lexer.until(line_start, |c| !is_space(c)) - line_start
    }

    fn close(&mut self, token: &Token) {
        let Some(block) = self.stack.pop() else {
            return self.fault(
                Problem::new(Code::StrayBrace, self.lexer.span(token.range()), "a `}` closes no block")
                    .label("no block is open here")
                    .help("one `}` is too many, here or above"),
            );
        };
        let owner = block.closed(token.end);
        self.after_block(owner);
    }

    /// After a block its node ends, but for blocks that are commented out.
    fn after_block(&mut self, owner: Owner) {
        loop {
            let token = self.next();
            let after = match token.kind {
                _ if token.is_space() => continue,
                Kind::Newline | Kind::LineComment | Kind::Semicolon | Kind::End => return self.done(owner),
                Kind::Close => {
                    self.back(&token);
                    return self.done(owner);
                }
                Kind::SlashDash => match self.skipped_entry(&token) {
                    Some(open) => return self.open(owner, open, true),
                    None => continue,
                },
                Kind::Open if !owner.has_block => return self.open(owner, token, false),
                _ => token,
            };
            self.back(&after);
            // What is broken will be complained of as the beginning of the next node.
            if !after.broken {
                self.fault(
                    Problem::new(
                        Code::Syntax,
                        self.lexer.span(after.range()),
                        "a node goes on after its block",
                    )
                    .label("expected a new line or `;` before this")
                    .help("arguments and properties stand before the block"),
                );
            }
            return self.done(owner);
        }
    }

    fn finish(mut self) -> (KdlDocument, Option<Suspect>) {
        let mut suspect = None;
        if !self.stopped {
            self.idle_slashdash();
            if let Some(block) = self.stack.last() {
                suspect = self.suspect;
                let message = match self.stack.len() {
                    1 => "a block is never closed".to_owned(),
                    count => format!("{count} blocks are never closed"),
                };
                let problem =
                    Problem::new(Code::UnclosedBlock, self.lexer.span(block.open..block.open + 1), message)
                        .label("opened here, and the file ends")
                        .help("close it with `}`");
                self.fault(problem);
            }
        }
        self.flush();
        while let Some(block) = self.stack.pop() {
            let end = self.at;
            self.done(block.closed(end));
        }
        let mut document = KdlDocument::new();
        *document.nodes_mut() = self.top;
        (document, suspect)
    }
}

impl Block {
    /// The owner with the block that ends at `end`.
    fn closed(self, end: usize) -> Owner {
        let mut owner = self.owner;
        owner.has_block |= !self.skipped;
        if let Some(node) = &mut owner.node {
            node.set_span(owner.start..end);
            if !self.skipped {
                let mut children = KdlDocument::new();
                *children.nodes_mut() = self.nodes;
                children.set_span(self.open..end);
                node.set_children(children);
            }
        }
        owner
    }
}

pub(crate) fn shortened(text: &str) -> &str {
    const SHOWN_BYTES_MAX: usize = 80;
    &text[..text.floor_char_boundary(SHOWN_BYTES_MAX)]
}
