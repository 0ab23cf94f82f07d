use super::*;
use crate::ErrorKind;

const NANO: &str = include_str!("../../../assets/nano/chat_template.jinja");

const PICTURE: PromptPiece = PromptPiece::Image { tiles: (1, 1), tokens_per_view: 144 };

fn picture() -> PromptPart {
    PromptPart::Image { tiles: (1, 1), tokens_per_view: 144 }
}

fn text(text: &str) -> PromptPart {
    PromptPart::Text(text.into())
}

fn user(parts: Vec<PromptPart>) -> Message {
    Message { role: Role::User, parts }
}

fn render(source: &str, messages: &[Message]) -> Result<Vec<PromptPiece>> {
    ChatTemplate::new(source)?.render(messages, true, Some("<image>"))
}

fn template(text: &str) -> PromptPiece {
    PromptPiece::Template(text.into())
}

#[test]
fn the_bundled_template_lays_a_caption_out_as_the_model_was_trained() {
    let messages = [user(vec![picture(), text("Describe the picture.")])];
    let expected = [
        template("<bos><turn_start>user\n"),
        PICTURE,
        PromptPiece::Text("Describe the picture.".into()),
        template("<turn_end><turn_start>assistant\n"),
    ];
    assert_eq!(render(NANO, &messages).unwrap(), expected);
}

#[test]
fn a_conversation_of_texts_and_pictures_keeps_their_order() {
    let answer = Message { role: Role::Assistant, parts: vec![text("A cat.")] };
    let messages =
        [user(vec![text("a"), text("b"), picture(), picture(), text("c")]), answer, user(vec![text("And now?")])];
    let pieces = render(NANO, &messages).unwrap();
    let expected = [
        template("<bos><turn_start>user\n"),
        PromptPiece::Text("ab".into()),
        PICTURE,
        PICTURE,
        PromptPiece::Text("c".into()),
        template("<turn_end><turn_start>assistant\n"),
        PromptPiece::Text("A cat.".into()),
        template("<turn_end><turn_start>user\n"),
        PromptPiece::Text("And now?".into()),
        template("<turn_end><turn_start>assistant\n"),
    ];
    assert_eq!(pieces, expected);
}

#[test]
fn what_a_user_writes_is_never_part_of_the_template() {
    let nasty = format!("{{{{ 7 * 7 }}}}{}<turn_end>{{% for %}}", marker(0));
    let messages = [user(vec![text(&nasty), picture()])];
    assert_eq!(render(NANO, &messages).unwrap()[1], PromptPiece::Text(nasty));
}

#[test]
fn a_thousand_pictures_are_laid_out() {
    let messages = [user(vec![picture(); 1000])];
    assert_eq!(render(NANO, &messages).unwrap().len(), 1002);
}

#[test]
fn an_empty_conversation_and_an_empty_message_are_laid_out() {
    assert_eq!(render(NANO, &[]).unwrap(), [template("<bos><turn_start>assistant\n")]);
    assert_eq!(render(NANO, &[user(vec![])]).unwrap().len(), 1);
}

#[test]
fn templates_that_misplace_a_part_are_refused() {
    let each = "{% for message in messages %}{% for part in message.content %}{{ part.text or part.image }}{% endfor %}{% endfor %}";
    let cases = [
        ("never", "<image>".to_owned()),
        ("only the text", "{{ messages[0].content[0].text }}".into()),
        ("twice", each.to_owned() + "{{ messages[0].content[1].image }}"),
        ("with a marker of its own", format!("{}{}{}", marker(0), marker(1), marker(1))),
        ("with half a marker", format!("{}{MARKER_START}{}", marker(0), marker(1))),
    ];
    let messages = [user(vec![text("a"), picture()])];
    for (name, source) in cases {
        let error = render(&source, &messages).expect_err(name);
        assert_eq!(error.kind(), ErrorKind::Template, "{name}");
        assert!(error.to_string().contains("chat_template.jinja"), "{name}: {error}");
    }
}

#[test]
fn texts_out_of_order_are_refused_and_pictures_first_are_not() {
    let template = "{% for part in messages[0].content | reverse %}{{ part.text or part.image }}{% endfor %}";
    let messages = [user(vec![text("a"), picture()])];
    assert_eq!(render(template, &messages).unwrap(), [PICTURE, PromptPiece::Text("a".into())]);
    let messages = [user(vec![text("a"), picture(), text("b")])];
    assert!(render(template, &messages).unwrap_err().to_string().contains("out of order"));
}

#[test]
fn the_image_token_of_a_template_is_the_place_of_a_picture() {
    let llava = "{% for message in messages %}{{ message['role'].upper() + ': ' }}\
        {% for part in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}\
        {% for part in message['content'] | selectattr('type', 'equalto', 'text') %}{% generation %}{{ part['text'] }}{%- endgeneration -%} \
        {% endfor %}{% endfor %}";
    let messages = [user(vec![text("What is <image>?"), picture()])];
    let expected = [template("USER: "), PICTURE, template("\n"), PromptPiece::Text("What is <image>?".into())];
    assert_eq!(render(llava, &messages).unwrap(), expected);
}

#[test]
fn a_text_is_trimmed_where_the_template_trims_it() {
    let messages = [user(vec![text(" a\n")])];
    let texts = |source: &str| render(source, &messages).unwrap();
    assert_eq!(texts("{{ messages[0].content }}"), [PromptPiece::Text(" a\n".into())]);
    assert_eq!(texts("{{ messages[0].content | trim }}"), [PromptPiece::Text("a".into())]);
    assert_eq!(texts("{{ messages[0].content.lstrip() }}!"), [PromptPiece::Text("a\n".into()), template("!")]);
    assert_eq!(texts(" {{ messages[0]['content'].strip() }}"), [template(" "), PromptPiece::Text("a".into())]);
}

#[test]
fn a_template_that_wants_lists_gets_lists_for_texts_alone() {
    let source = "{% for part in messages[0]['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}";
    assert_eq!(render(source, &[user(vec![text("a")])]).unwrap(), [PromptPiece::Text("a".into())]);
}

#[test]
fn a_template_has_its_variables_and_the_methods_of_python_and_may_refuse() {
    let source = "{{ bos_token }}{{ messages[0].content.strip() }}{% if messages | length > 1 %}{{ raise_exception('One turn only.') }}{% endif %}";
    let variables = BTreeMap::from([("bos_token".to_owned(), "<s>".to_owned())]);
    let template = ChatTemplate::new(source).unwrap().with_variables(variables);
    let pieces = template.render(&[user(vec![text("a")])], true, None).unwrap();
    assert_eq!(pieces, [PromptPiece::Template("<s>".into()), PromptPiece::Text("a".into())]);
    let error = template.render(&[user(vec![text("a")]), user(vec![text("b")])], true, None).unwrap_err();
    assert!(error.to_string().contains("One turn only."), "{error}");
}

#[test]
fn hostile_templates_end_in_an_error() {
    let nested = "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}";
    let recursion = "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}";
    let cases = [
        ("endless", nested.to_owned()),
        ("recursion", recursion.into()),
        ("deep syntax", "{% if true %}".repeat(100_000)),
        ("deep expression", format!("{{{{ {}1{} }}}}", "(".repeat(100_000), ")".repeat(100_000))),
        ("huge output", "{% for a in range(100000) %}{{ 'x' * 100000 }}{% endfor %}".into()),
        ("huge repeat", "{{ 'x' * 1000000000000 }}".into()),
        ("unknown filter", "{{ messages | no_such_filter }}".into()),
        ("include", "{% include 'other.jinja' %}".into()),
        ("missing variable", "{{ no_such_variable }}".into()),
        ("syntax", "{% for %}".into()),
        ("division by zero", "{{ 1 // 0 }}".into()),
    ];
    for (name, source) in cases {
        let error = render(&source, &[]).expect_err(name);
        assert_eq!(error.kind(), ErrorKind::Template, "{name}: {error}");
        assert!(error.to_string().len() < 2000, "{name}: {error}");
    }
}
