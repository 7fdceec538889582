//! A page of Markdown as the steps that its reader takes.

/// One thing that the reader does, or looks at.
#[derive(Debug, PartialEq)]
pub(crate) enum Step {
    Save {
        file: String,
        text: String,
    },
    Run(Command),
    /// More output of a command that keeps running.
    Await {
        command: String,
        shown: Vec<String>,
    },
    /// Ctrl-C in the terminal of this command.
    Stop {
        command: String,
    },
}

#[derive(Debug, PartialEq)]
pub(crate) struct Command {
    pub(crate) typed: String,
    /// The command that runs in its place, if there is one.
    pub(crate) instead: Option<String>,
    pub(crate) exit_code: i32,
    pub(crate) numbers_differ: bool,
    /// `None`: any output will do.
    pub(crate) shown: Option<Vec<String>>,
}

#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) path: String,
    /// Each with its line.
    pub(crate) steps: Vec<(usize, Step)>,
    /// Blocks that are neither executed nor say why not, and marks that cannot be read; with path and line.
    pub(crate) faults: Vec<String>,
}

const MARKS: &[&str] = &["file", "output of", "not run", "run as", "exit code", "numbers", "stop"];

/// What the HTML comments before a block say about it: key and value.
type Marks<'a> = Vec<(&'a str, &'a str)>;

fn value(marks: &Marks<'_>, key: &str) -> Option<String> {
    let found = marks.iter().find(|(known, _)| *known == key);
    found.map(|(_, value)| (*value).to_owned())
}

impl Page {
    pub(crate) fn read(path: &str, text: &str) -> Self {
        let mut page = Self {
            path: path.to_owned(),
            ..Self::default()
        };
        let mut lines = (1..).zip(text.lines());
        let (mut marks, mut before) = (Marks::new(), "");
        while let Some((number, line)) = lines.next() {
            let (trimmed, indent) = (line.trim(), line.len() - line.trim_start().len());
            let comment = trimmed.strip_prefix("<!-- ").and_then(|rest| rest.strip_suffix(" -->"));
            if let Some(language) = trimmed.strip_prefix("```") {
                let body = lines
                    .by_ref()
                    .map(|(_, line)| line)
                    .take_while(|line| line.trim() != "```");
                let body: Vec<&str> = body.map(|line| line.get(indent..).unwrap_or_default()).collect();
                page.block(number, language, &body, &std::mem::take(&mut marks));
            } else if let Some(comment) = comment {
                match comment.split_once(": ") {
                    Some(("stop", command)) => page.step(
                        number,
                        Step::Stop {
                            command: command.to_owned(),
                        },
                    ),
                    Some(mark) if MARKS.contains(&mark.0) => marks.push(mark),
                    _ => page.fault(number, "no such mark; CONTRIBUTING.md lists them"),
                }
            } else if before.is_empty() && indent >= 4 && !trimmed.is_empty() {
                page.fault(number, "indented code is not executed: write a fenced block");
            }
            before = trimmed;
        }
        page
    }

    /// Whether the page starts a NATS server of its own.
    pub(crate) fn needs_nats(&self) -> bool {
        let starts = |step: &Step| matches!(step, Step::Run(command) if command.typed.starts_with("nats-server"));
        self.steps.iter().any(|(_, step)| starts(step))
    }

    fn fault(&mut self, line: usize, what: &str) {
        self.faults.push(format!("{}:{line}: {what}", self.path));
    }

    fn step(&mut self, line: usize, step: Step) {
        self.steps.push((line, step));
    }

    fn block(&mut self, line: usize, language: &str, body: &[&str], marks: &Marks<'_>) {
        if let Some(file) = value(marks, "file") {
            self.step(
                line,
                Step::Save {
                    file,
                    text: body.join("\n") + "\n",
                },
            );
        } else if let Some(command) = value(marks, "output of") {
            let shown = body.iter().map(|&line| line.to_owned()).collect();
            self.step(line, Step::Await { command, shown });
        } else if value(marks, "not run").is_none() {
            match language {
                "console" => self.console(line, body, marks),
                "sh" => self.run(line, body.join("\n"), None, marks),
                // A picture, not code.
                "mermaid" => {}
                _ => self.fault(line, "this block is not executed: say what it is, or why it is not run"),
            }
        }
    }

    fn run(&mut self, line: usize, typed: String, shown: Option<Vec<String>>, marks: &Marks<'_>) {
        let exit_code = value(marks, "exit code").unwrap_or("0".to_owned()).parse();
        match exit_code {
            Ok(exit_code) => {
                let instead = value(marks, "run as");
                self.step(
                    line,
                    Step::Run(Command {
                        typed,
                        instead,
                        exit_code,
                        numbers_differ: value(marks, "numbers").is_some(),
                        shown,
                    }),
                );
            }
            Err(_) => self.fault(line, "its exit code is no number"),
        }
    }

    /// Commands after `$ `, each followed by its output. Marks are about the last of them.
    fn console(&mut self, line: usize, body: &[&str], marks: &Marks<'_>) {
        let mut commands: Vec<(usize, String, Vec<String>)> = Vec::new();
        let mut goes_on = false;
        for (number, &text) in (line + 1..).zip(body) {
            match (text.strip_prefix("$ "), commands.last_mut()) {
                (_, Some((_, command, _))) if goes_on => *command += &format!("\n{text}"),
                (Some(command), _) => commands.push((number, command.to_owned(), vec![])),
                (None, Some((_, _, shown))) => shown.push(text.to_owned()),
                (None, None) => return self.fault(line, "a console block begins with `$ ` and a command"),
            }
            goes_on = text.ends_with('\\') && (goes_on || text.starts_with("$ "));
        }
        let last = commands.len().saturating_sub(1);
        for (index, (line, typed, shown)) in commands.into_iter().enumerate() {
            let none = Marks::new();
            self.run(line, typed, Some(shown), if index == last { marks } else { &none });
        }
    }
}

#[test]
fn a_page_is_read_as_steps() {
    let text = "# A page\n\n<!-- file: a.yaml -->\n```yaml\na: 1\n```\n\n1. Do:\n\n   <!-- exit code: 1 -->\n   ```console\n   $ echo a \\\n     b\n   a b\n   $ false\n   ```\n\
                <!-- stop: headgate run a.yaml -->\n\n<!-- not run: needs a cluster -->\n```sh\nkubectl\n```\n```sh\ntrue\n```\n";
    let page = Page::read("a.md", text);
    let run = |typed: &str, exit_code, shown: Option<&str>| {
        let shown = shown.map(|shown| shown.lines().map(str::to_owned).collect());
        Step::Run(Command {
            typed: typed.to_owned(),
            instead: None,
            exit_code,
            numbers_differ: false,
            shown,
        })
    };
    let expected = [
        (
            4,
            Step::Save {
                file: "a.yaml".into(),
                text: "a: 1\n".into(),
            },
        ),
        (12, run("echo a \\\n  b", 0, Some("a b"))),
        (15, run("false", 1, Some(""))),
        (
            17,
            Step::Stop {
                command: "headgate run a.yaml".into(),
            },
        ),
        (23, run("true", 0, None)),
    ];
    assert_eq!((page.steps.as_slice(), page.faults), (expected.as_slice(), vec![]));
}

#[test]
fn what_is_not_executed_is_a_fault() {
    for (text, line) in [
        ("```yaml\na: 1\n```\n", 1),
        ("```\nheadgate get all\n```\n", 1),
        ("Do:\n\n    headgate get all\n", 3),
        ("<!-- not run -->\n```sh\ntrue\n```\n", 1),
        ("<!-- fil: a.yaml -->\n```sh\n```\n", 1),
        ("<!-- exit code: one -->\n```sh\n```\n", 2),
        ("```console\nheadgate get all\n```\n", 1),
    ] {
        let faults = Page::read("a.md", text).faults;
        assert!(
            faults.iter().any(|fault| fault.starts_with(&format!("a.md:{line}: "))),
            "{text}: {faults:?}"
        );
    }
}
