from .figures import (
    BLUE as BLUE,
    GREEN as GREEN,
    GREY as GREY,
    INK as INK,
    LABEL_COLOURS as LABEL_COLOURS,
    ORANGE as ORANGE,
    PURPLE as PURPLE,
    SKY as SKY,
    VERMILION as VERMILION,
    WIDTH as WIDTH,
    apply_style as apply_style,
    colour_of as colour_of,
    draw_roc as draw_roc,
    plot_effects as plot_effects,
    save_figure as save_figure,
)
from .reason import plot_reason as plot_reason
from .sound import (
    Card as Card,
    glue as glue,
    listen as listen,
    log_mel_to_audio as log_mel_to_audio,
    say as say,
    show_cards as show_cards,
    show_html as show_html,
    table as table,
)
from .spectrogram import (
    STANDARDISED as STANDARDISED,
    draw_log_mel as draw_log_mel,
    mel_ticks as mel_ticks,
    plot_log_mels as plot_log_mels,
    unit_of as unit_of,
)
