//! The layout of prompts: which token stands where.

use ocelli::{CaptionLength, Message, Mode, Model, PromptPart, Role};

use crate::picture;

fn part(model: &Model, mode: Mode) -> PromptPart {
    let encoded = model.encode_picture(&picture(0), mode).unwrap();
    encoded.prompt_part()
}

fn text(text: &str) -> PromptPart {
    PromptPart::Text(text.to_owned())
}

fn assert_layout(model: &Model, description: &str, messages: &[Message]) {
    let layout = model.layout(messages).unwrap().describe(model.tokenizer());
    insta::with_settings!({ description => description, omit_expression => true }, { insta::assert_snapshot!(layout) });
}

#[test]
fn a_caption_prompt_has_the_picture_before_the_question() {
    let model = Model::bundled().unwrap();
    for mode in Mode::ALL {
        let parts = vec![part(&model, mode), text(model.caption_prompt(CaptionLength::Normal))];
        insta::with_settings!({ snapshot_suffix => mode.as_str() }, {
            assert_layout(&model, &format!("a caption in the {mode} mode"), &[Message { role: Role::User, parts }]);
        });
    }
}

#[test]
fn pictures_and_texts_keep_their_order_over_turns() {
    let model = Model::bundled().unwrap();
    let picture = || part(&model, Mode::Rapid);
    let messages = [
        Message { role: Role::User, parts: vec![text("Here is one"), picture(), text("and another"), picture()] },
        Message { role: Role::Assistant, parts: vec![text("I see.")] },
        Message { role: Role::User, parts: vec![text("Compare.")] },
    ];
    assert_layout(&model, "two pictures between texts, an answer, a second question", &messages);
}
