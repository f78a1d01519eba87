//! Here-documents.

use insta::assert_snapshot;

use super::{parsed, problems};

#[test]
fn run() {
    assert_snapshot!(parsed("FROM a\nRUN <<EOF\necho\n\n# no comment \\\nEOF\nRUN cat <<'A' 3<<-\"B\" > f\n$x\nA\n\t\tindented\n\tB\nUSER b\n"), @r#"
        FROM "a"
          RUN shell "<<EOF" <"EOF": "echo\n\n# no comment \\\n">
          RUN shell "cat <<'A' 3<<-\"B\" > f" <"A" literal: "$x\n"> <"B" literal chomp fd 3: "indented\n">
          USER "b"
        "#);
    // The delimiter is the rest of the word.
    assert_snapshot!(parsed("FROM a\nRUN cat <<EOF>f\nx\nEOF>f\n"), @r#"
        FROM "a"
          RUN shell "cat <<EOF>f" <"EOF>f": "x\n">
        "#);
    assert_snapshot!(parsed("FROM a\nRUN cat << EOF\nx\nEOF\n"), @r#"
        FROM "a"
          RUN shell "cat << EOF" <"EOF": "x\n">
        "#);
}

#[test]
fn what_is_none() {
    assert_snapshot!(parsed("FROM a\nRUN a <<<b\nRUN a '<<b'\nRUN a\\<<b\nRUN $((1<<2))\nRUN [\"a\", \"<<b\"]\nCMD <<b\nENV A=<<b\n"), @r#"
        FROM "a"
          RUN shell "a <<<b"
          RUN shell "a '<<b'"
          RUN shell "a\\<<b"
          RUN shell "$((1<<2))"
          RUN exec ["a", "<<b"]
          CMD shell "<<b"
          ENV "A"="<<b"
        "#);
    // An open quote hides it.
    assert_snapshot!(parsed("FROM a\nRUN echo \" <<b\n"), @r#"
        FROM "a"
          RUN shell "echo \" <<b"
        "#);
}

#[test]
fn copy() {
    assert_snapshot!(parsed("FROM a\nCOPY <<-a <<\"b\" c /d/\n\tone $x\na\ntwo\nb\nADD <<x /y\nx\n"), @r#"
        FROM "a"
          COPY <"a" chomp: "one $x\n"> <"b" literal: "two\n"> "c" -> "/d/"
          ADD <"x": ""> -> "/y"
        "#);
    // Of two with one name the last counts.
    assert_snapshot!(parsed("FROM a\nCOPY <<a <<a /d/\none\na\ntwo\na\n"), @r#"
        FROM "a"
          COPY <"a": "two\n"> <"a": "two\n"> -> "/d/"
        "#);
    assert_snapshot!(parsed("FROM a\nCOPY [\"<<a\", \"/d/\"]\n"), @r#"
        FROM "a"
          COPY json <"a": ""> -> "/d/"
        "#);
}

#[test]
fn line_ends_stay_in_bodies() {
    assert_snapshot!(parsed("FROM a\r\nCOPY <<EOF /d\r\nl1\r\n\r\nEOF\r\nUSER b\r\n"), @r#"
        FROM "a"
          COPY <"EOF": "l1\r\n\r\n"> -> "/d"
          USER "b"
        "#);
}

#[test]
fn onbuild() {
    assert_snapshot!(parsed("FROM a\nONBUILD COPY <<-EOF /copied\n\tx\n\tEOF\nUSER b"), @r#"
        FROM "a"
          ONBUILD "COPY <<-EOF /copied\n\tx\nEOF"
          USER "b"
        "#);
}

#[test]
fn unterminated() {
    assert_snapshot!(problems("FROM a\nRUN <<A <<B\nx\nA\ny\n"), @r#"error[unterminated-heredoc] 2:9 "<<B": unterminated heredoc: no line is "B" alone"#);
}
